"""A Machine in a test's hands: submit, grant, end attempts, and look at what it commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.scheduler.events import (
    AttemptEnd,
    AttemptsEnded,
    Command,
    CreditsGranted,
    Dispatch,
    Event,
    JobSubmitted,
    MiniBatchesPlanned,
    NodeJoined,
    PlanGrew,
    PoolChanged,
)
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import Failure, FailureKind, JobState, Limits, MiniBatch, PoolPhase, State

if TYPE_CHECKING:
    from collections.abc import Sequence

JOB = "job-1"
RAISED = Failure(FailureKind.RUN_RAISED, "ValueError: no", "Traceback …")


class Drive:
    """One job on some nodes; `now` is whatever the test says."""

    def __init__(self, limits: Limits | None = None, nodes: Sequence[str] = ("a",)) -> None:
        self.machine = Machine(epoch=1)
        self.now = 0.0
        self.commands: list[Command] = []
        for node in nodes:
            self.tell(NodeJoined(node))
        self.tell(JobSubmitted(JOB, limits or Limits()))

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

    def out(self) -> dict[int, int]:
        """Index of the mini-batch to the attempt that is out for it."""
        return {running.mini_batch.index: attempt for attempt, running in self.job.running.items()}

    def succeed(self, index: int, items: int = 10, failed: int = 0) -> list[Command]:
        end = AttemptEnd(self.out()[index], items - failed, failed, rows=items - failed)
        return self.tell(AttemptsEnded(JOB, [end]))

    def fail(self, index: int, failure: Failure = RAISED) -> list[Command]:
        return self.tell(AttemptsEnded(JOB, [AttemptEnd(self.out()[index], failure=failure)]))


def of_kind(commands: Sequence[Command], kind: type) -> list[Command]:
    return [command for command in commands if isinstance(command, kind)]


def dispatched(commands: Sequence[Command]) -> list[int]:
    return [index for each in commands if isinstance(each, Dispatch) for _, index, _ in each.attempts]
