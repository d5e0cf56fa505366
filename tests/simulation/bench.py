"""One job of a Machine in a test's hands, without time, wires or delays: what is told is durable at once."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NoReturn

from batchmesh.scheduler.events import (
    Abort,
    AttemptEnd,
    AttemptsEnded,
    AttemptsHeld,
    ClosePool,
    Commit,
    CreditsGranted,
    Discard,
    Dispatch,
    FramesDamaged,
    HeldAttempt,
    JobSubmitted,
    MiniBatchesPlanned,
    NodeJoined,
    OpenPool,
    OutputCommitted,
    PlanGrew,
    PoolChanged,
    RecordLoss,
    Seal,
    TellState,
)
from batchmesh.scheduler.isolation import Isolation
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import Failure, FailureKind, Limits, MiniBatch, PoolPhase, State
from batchmesh.scheduler.outcomes import failed_outcome

from .audit import Audit
from .book import Book, part_of
from .clock import Clock
from .database import Database, JobTable, Row, counted, counted_of, opened
from .workload import Item, Planned, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batchmesh.scheduler.events import Command, Event
    from batchmesh.scheduler.model import JobState

    from .book import Part

JOB = "job"
LEASE = 10.0
WORKERS = 2


@dataclass(slots=True)
class BenchNode:
    """What the node has of the job. `asked`: a stream was asked for and has not come; `connected`: it has."""

    attempts: dict[int, MiniBatch] = field(default_factory=dict)
    asked: bool = False
    connected: bool = False


class Bench:
    """The job's mini-batches have `items` items each, planned when plan() is called."""

    def __init__(self, limits: Limits, items: Sequence[int], machine: type[Machine] = Machine) -> None:
        planned = tuple(
            Planned(index, (Item.GOOD,) * count, FailureKind.RUN_RAISED) for index, count in enumerate(items)
        )
        self.table = JobTable(Workload(JOB, limits, planned))
        self.database = Database(Clock(), Random(0), successes_stand=True)
        self.database.jobs[JOB] = self.table
        self.book = Book(self.table, LEASE, Counter(), self._violated)
        self.database.on_put = lambda _, row: self.book.on_row(row)
        self.now = 0.0
        self.nodes: dict[str, BenchNode] = {}
        self.ended: list[AttemptEnd] = []
        self.publishing = False
        self._machine = machine
        self._epoch = 0
        self._queue: deque[Event] = deque()
        self.start()

    @property
    def job(self) -> JobState:
        return self.machine.jobs[JOB]

    @property
    def state(self) -> State:
        return self.job.state

    def _violated(self, sentence: str) -> NoReturn:
        raise AssertionError(sentence)

    # ---- the scheduler ----

    def start(self) -> None:
        """Begins a life of the scheduler: nodes keep what they have, and their streams are cut."""
        self._epoch += 1
        self.machine = self._machine(self._epoch, LEASE)
        self.publishing = False
        for node in self.nodes.values():
            node.asked = node.connected = False
        limits = self.table.workload.limits
        self.tell(JobSubmitted(JOB, limits, counted(self.table), frozenset(self.table.serving), LEASE))
        found = [each for index in range(self.table.planned) if (each := opened(self.table, index)) is not None]
        self.tell(
            MiniBatchesPlanned(
                JOB,
                [each for each in found if isinstance(each, MiniBatch)],
                [each for each in found if isinstance(each, Isolation)],
            )
        )
        for node_id in self.nodes:
            self.tell(NodeJoined(node_id))

    def tell(self, event: Event) -> None:
        """One event, and those that come of what it commands."""
        self._queue.append(event)
        while self._queue:
            self._tell_one(self._queue.popleft())

    def _tell_one(self, event: Event) -> None:
        audit = Audit(self.book, self.machine, event, self.now, self._held)
        commands = self.machine.handle(event, self.now)
        audit.end(commands)
        for command in commands:
            self._perform(command)

    def _held(self, _job_id: str, part: Part) -> list[int]:
        return [
            attempt
            for node in self.nodes.values()
            for attempt, mini_batch in node.attempts.items()
            if part_of(mini_batch) == part
        ]

    def _perform(self, command: Command) -> None:
        match command:
            case Dispatch():
                self.nodes[command.node_id].attempts.update(command.attempts)
            case Abort():
                for attempt in command.attempts:
                    self.nodes[command.node_id].attempts.pop(attempt, None)
            case OpenPool():
                self.table.serving.add(command.node_id)
                self.nodes[command.node_id].asked = True
            case ClosePool():
                self._close(command)
            case RecordLoss():
                self._record(command)
            case Seal():
                self.database.seal(JOB, command.indexes)
            case TellState():
                self.table.state = command.state
            case Commit() | Discard():
                self.publishing = True
            case _:
                pass

    def _close(self, command: ClosePool) -> None:
        node = self.nodes.get(command.node_id)
        if node is None:
            return
        if command.abort or self.state is not State.RUNNING:
            node.attempts.clear()
            node.asked = node.connected = False

    def _record(self, command: RecordLoss) -> None:
        self._put(AttemptEnd(command.attempt_id, failure=command.failure))
        self._queue.append(AttemptsEnded(JOB, [AttemptEnd(command.attempt_id, failure=command.failure)]))

    def _put(self, end: AttemptEnd) -> None:
        running = self.job.running.get(end.attempt_id)
        if running is None or (end.failure is not None and end.failure.kind is FailureKind.NOT_STARTED):
            return
        part = running.mini_batch
        if end.failure is not None:
            row = failed_outcome(0, self.job, end.attempt_id, "", end.failure)
            which = (row.idx, row.first, row.items, row.level, row.runs, row.tries, end.attempt_id)
            self.database.put(JOB, Row(*which, end.failure.kind, row.final))
            return
        runs = self.job.isolations[part.index].runs if part.level else 0
        which = (part.index, part.first, part.items, part.level, runs, part.tries + 1, end.attempt_id)
        self.database.put(JOB, Row(*which, None, True, end.succeeded_items, end.failed_items, end.rows))

    # ---- what may happen ----

    def plan(self, count: int) -> None:
        """The next mini-batches are planned and opened."""
        begun = self.table.planned
        upto = self.table.planned = min(begun + count, len(self.table.workload.mini_batches))
        new = self.table.workload.mini_batches[begun:upto]
        items = sum(len(each.items) for each in new)
        self.tell(PlanGrew(JOB, len(new), items, ended=self.table.planning_ended))
        self.tell(MiniBatchesPlanned(JOB, [MiniBatch(each.index, len(each.items)) for each in new]))

    def join(self, node_id: str) -> None:
        self.nodes.setdefault(node_id, BenchNode())
        self.tell(NodeJoined(node_id))

    def connect(self, node_id: str, lost: Iterable[int] = ()) -> None:
        """The stream that was asked for comes; the attempts `lost` never came to the node."""
        node = self.nodes[node_id]
        node.asked, node.connected = False, True
        for attempt in lost:
            node.attempts.pop(attempt, None)
        held = [HeldAttempt(attempt, part.index, part.part) for attempt, part in node.attempts.items()]
        self.tell(AttemptsHeld(JOB, node_id, held))
        self.tell(PoolChanged(JOB, node_id, PoolPhase.READY, WORKERS))

    def grant(self, node_id: str, count: int) -> None:
        self.tell(CreditsGranted(JOB, node_id, count))

    def out(self) -> list[int]:
        """Attempts on nodes to which a stream leads."""
        return sorted(attempt for node in self.nodes.values() if node.connected for attempt in node.attempts)

    def end(self, attempt: int, failure: FailureKind | None = None, short: int = 0) -> None:
        """An attempt ends; `short`: of that many items at most a success has no rows."""
        part = next(node.attempts.pop(attempt) for node in self.nodes.values() if attempt in node.attempts)
        if failure is not None:
            end = AttemptEnd(attempt, failure=Failure(failure, "no"), elapsed=0.1)
        else:
            good = part.items - min(short, part.items)
            end = AttemptEnd(attempt, good, part.items - good, good, elapsed=0.1)
        self.ended.append(end)
        self._put(end)
        self.tell(AttemptsEnded(JOB, [end]))

    def publish(self, damaged: Iterable[int] = ()) -> None:
        """The output is there, or the frames of these mini-batches are damaged."""
        indexes = [index for index in damaged if any(row.failure is None for row in self.table.rows_of(index).values())]
        self.publishing = False
        if not indexes or self.state is not State.COMMITTING:
            self.tell(OutputCommitted(JOB))
            return
        lost = counted_of(self.table, indexes)
        again = [MiniBatch(index, len(self.table.workload.mini_batches[index].items)) for index in indexes]
        self.database.reopen(JOB, indexes)
        self.book.on_reopened(indexes)
        self.tell(FramesDamaged(JOB, again, lost))
