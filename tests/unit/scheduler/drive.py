"""A Machine in a test's hands: submit, grant, end attempts, and look at what it commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchmesh.scheduler.events import (
    Abort,
    AttemptEnd,
    AttemptsEnded,
    AttemptsHeld,
    Command,
    CreditsGranted,
    Dispatch,
    Event,
    HeldAttempt,
    JobSubmitted,
    MiniBatchesPlanned,
    NodeJoined,
    PlanGrew,
    PoolChanged,
)
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import Counts, Failure, FailureKind, JobState, Limits, MiniBatch, PoolPhase, State

if TYPE_CHECKING:
    from collections.abc import Sequence

JOB = "job-1"
RAISED = Failure(FailureKind.RUN_RAISED, "ValueError: no", "Traceback …")
CRASHED = Failure(FailureKind.WORKER_CRASHED, "killed by signal 11")
NOT_STARTED = Failure(FailureKind.NOT_STARTED, "a worker went before it")


def whole(**settings: Any) -> Limits:
    """Limits of a job whose mini-batches fail whole, and run once at a time."""
    return Limits(isolate_failures=False, backup_attempts=False, **settings)


class Drive:
    """One job on some nodes; `now` is whatever the test says. Mini-batches fail whole and run
    once at a time unless `limits` say otherwise."""

    def __init__(
        self,
        limits: Limits | None = None,
        nodes: Sequence[str] = ("a",),
        expected: Sequence[str] = (),
        counts: Counts | None = None,
        epoch: int = 1,
    ) -> None:
        self.machine = Machine(epoch, lease=15.0)
        self.now = 0.0
        self.commands: list[Command] = []
        for node in nodes:
            self.tell(NodeJoined(node))
        self.tell(JobSubmitted(JOB, limits or whole(), counts or Counts(), frozenset(expected), patience=15.0))

    @property
    def job(self) -> JobState:
        return self.machine.jobs[JOB]

    def state(self) -> State:
        """The job's state now (a method, so that a type checker does not think it stays)."""
        return self.job.state

    def tell(self, event: Event) -> list[Command]:
        commands = self.machine.handle(event, self.now)
        self.commands += commands
        return commands

    def plan(self, count: int, items: int = 10, ended: bool = True) -> list[Command]:
        """Plans `count` mini-batches and lets all of them be dispatched."""
        first = self.job.counts.planned_mini_batches
        batches = [MiniBatch(first + each, items) for each in range(count)]
        return [
            *self.tell(PlanGrew(JOB, count, count * items, ended)),
            *self.tell(MiniBatchesPlanned(JOB, batches)),
        ]

    def ready(self, node: str = "a", workers: int = 2, credits_: int = 4) -> list[Command]:
        self.tell(PoolChanged(JOB, node, PoolPhase.READY, workers))
        return self.tell(CreditsGranted(JOB, node, credits_))

    def held(
        self, node: str, *attempts: tuple[int, int], part: int = 0, opened: Sequence[MiniBatch] = ()
    ) -> list[Command]:
        """The node tells that it holds these (attempt, index)."""
        told = [HeldAttempt(attempt, index, part) for attempt, index in attempts]
        return self.tell(AttemptsHeld(JOB, node, told, opened))

    def out(self) -> dict[int, int]:
        """Index of the mini-batch to the attempt that is out for it; to the later one where there are two."""
        return {running.mini_batch.index: attempt for attempt, running in self.job.running.items()}

    def parts_out(self) -> dict[tuple[int, int], int]:
        """First item and number of items of each part to the attempt that is out for it."""
        out = self.job.running.items()
        return {(each.mini_batch.first, each.mini_batch.items): attempt for attempt, each in out}

    def on(self, node: str) -> list[int]:
        """Indexes of what is out on a node."""
        return [each.mini_batch.index for each in self.job.running.values() if each.node_id == node]

    def waiting(self) -> list[int]:
        return [each.index for each in self.job.waiting]

    def succeed(self, index: int, items: int = 10, failed: int = 0, elapsed: float = 0.0) -> list[Command]:
        return self.end(self.out()[index], items, failed, elapsed)

    def end(self, attempt: int, items: int = 10, failed: int = 0, elapsed: float = 0.0) -> list[Command]:
        """The attempt succeeded."""
        end = AttemptEnd(attempt, items - failed, failed, rows=items - failed, elapsed=elapsed)
        return self.tell(AttemptsEnded(JOB, [end]))

    def fail(self, index: int, failure: Failure = RAISED) -> list[Command]:
        return self.end_badly(self.out()[index], failure)

    def end_badly(self, attempt: int, failure: Failure = RAISED) -> list[Command]:
        return self.tell(AttemptsEnded(JOB, [AttemptEnd(attempt, failure=failure)]))


def of_kind(commands: Sequence[Command], kind: type) -> list[Command]:
    return [command for command in commands if isinstance(command, kind)]


def dispatched(commands: Sequence[Command]) -> list[int]:
    return [each.index for command in commands if isinstance(command, Dispatch) for _, each in command.attempts]


def of_ended(commands: Sequence[Command]) -> list[int]:
    """Attempts that shall be ended."""
    return [attempt for command in commands if isinstance(command, Abort) for attempt in command.attempts]
