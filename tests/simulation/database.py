"""The scheduler's database as a model: writes become durable in groups, in order, later; a crash loses the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchmesh.scheduler.isolation import Isolation, PartRow, restored
from batchmesh.scheduler.model import FINAL, Counts, FailureKind, MiniBatch, State

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Sequence

    from .clock import Clock
    from .workload import Planned, Workload

    Statement = Callable[[], object]
    Done = Callable[[], object]


@dataclass(slots=True)
class Row:
    """An outcome; keyed by mini-batch and first item."""

    index: int
    first: int
    items: int
    level: int
    runs: int
    tries: int
    attempt: int
    failure: FailureKind | None
    final: bool
    succeeded: int = 0
    failed: int = 0
    rows: int = 0


@dataclass(slots=True)
class JobTable:
    """All that is durable of one job."""

    workload: Workload
    state: State = State.PENDING
    cancelled: bool = False
    planned: int = 0
    outcomes: dict[int, dict[int, Row]] = field(default_factory=dict)
    serving: set[str] = field(default_factory=set)

    @property
    def planning_ended(self) -> bool:
        return self.planned == len(self.workload.mini_batches)

    def rows_of(self, index: int) -> dict[int, Row]:
        return self.outcomes.get(index, {})

    def all_rows(self) -> list[Row]:
        """In output order."""
        return [rows[first] for _, rows in sorted(self.outcomes.items()) for first in sorted(rows)]


class Database:
    """`delay` gives the seconds that one group takes to become durable."""

    def __init__(self, clock: Clock, random: random.Random, successes_stand: bool) -> None:
        self.jobs: dict[str, JobTable] = {}
        #: Seconds that a sync takes at most, at present.
        self.slowness = 0.01
        #: Called with each outcome that becomes durable, and with each success that is about to be replaced.
        self.on_put: Callable[[str, Row], None] = _nobody
        self.on_undone: Callable[[str, Row], None] = _nobody
        self._clock = clock
        self._random = random
        self._successes_stand = successes_stand
        self._waiting: list[tuple[Sequence[Statement], Done]] = []
        self._group: list[tuple[Sequence[Statement], Done]] = []

    def write(self, statements: Sequence[Statement], done: Done) -> None:
        """Calls `done` once they are durable, after all that was written before."""
        self._waiting.append((statements, done))
        if not self._group:
            self._sync()

    def read(self, ask: Statement, process_later: Callable[[float, Statement], None]) -> None:
        """Runs `ask`, which sees what is durable by then, a little later."""
        process_later(self._random.random() * self.slowness, ask)

    def crash(self) -> None:
        """The process is gone: the group on its way to the disk has come there, or has not; the rest is lost."""
        if self._group and self._random.random() < 0.5:
            for statements, _ in self._group:
                for statement in statements:
                    statement()
        self._group, self._waiting = [], []

    def _sync(self) -> None:
        group, self._waiting = self._waiting, []
        self._group = group
        self._clock.after(self._random.random() * self.slowness, lambda: self._synced(group))

    def _synced(self, group: list[tuple[Sequence[Statement], Done]]) -> None:
        if group is not self._group:
            return  # of a process that is gone
        self._group = []
        for statements, _ in group:
            for statement in statements:
                statement()
        for _, done in group:
            done()
        if self._waiting and not self._group:
            self._sync()

    # ---- what is written ----

    def put(self, job_id: str, row: Row) -> None:
        """As scheduler/tables.py adds outcomes: nothing takes the place of a success, or of a later level."""
        rows = self.jobs[job_id].outcomes.setdefault(row.index, {})
        self.on_put(job_id, row)
        old = rows.get(row.first)
        if old is not None and old.failure is None:
            if self._successes_stand:
                return
            self.on_undone(job_id, old)
        if (old is not None and old.level > row.level) or _stands_instead(rows, row):
            return
        if old is not None and old.level == row.level and old.attempt != row.attempt and old.tries >= row.tries:
            row.tries = old.tries + 1
        rows[row.first] = row

    def seal(self, job_id: str, indexes: Sequence[int]) -> None:
        for index in indexes:
            for row in self.jobs[job_id].rows_of(index).values():
                row.final = row.final or row.failure is not None

    def reopen(self, job_id: str, indexes: Sequence[int]) -> None:
        for index in indexes:
            self.jobs[job_id].outcomes.pop(index, None)

    # ---- what is asked ----

    def unfinished(self) -> list[JobTable]:
        return [job for job in self.jobs.values() if job.state not in FINAL]


def _nobody(_job_id: str, _row: Row) -> None:
    """Nobody listens."""


def _stands_instead(rows: dict[int, Row], row: Row) -> bool:
    """Whether another row stands for items of this part already."""
    return bool(row.level) and any(
        other.first != row.first
        and other.first < row.first + row.items
        and row.first < other.first + other.items
        and (other.failure is None or other.level > row.level)
        for other in rows.values()
    )


def is_settled(planned: Planned, rows: dict[int, Row]) -> bool:
    """Its rows' items sum to its items, and none has failed without being final."""
    whole = sum([row.items for row in rows.values()]) == len(planned.items)
    return planned.unreadable or (whole and all(row.failure is None or row.final for row in rows.values()))


def opened(job: JobTable, index: int) -> MiniBatch | Isolation | None:
    """What is left to do of a planned mini-batch, as scheduler/feeding.py has it; None when it is settled."""
    planned, rows, limits = job.workload.mini_batches[index], job.rows_of(index), job.workload.limits
    items = len(planned.items)
    if is_settled(planned, rows):
        return None
    if not rows:
        return MiniBatch(index, items)
    whole = rows.get(0) if len(rows) == 1 else None
    tried = whole is not None and (whole.tries < limits.run_max_try or items == 1 or not limits.isolate_failures)
    if whole is not None and not whole.level and tried:
        return MiniBatch(index, items, whole.tries, ended=whole.attempt)
    return restored(index, items, [part_row(row) for row in rows.values()])


def part_row(row: Row) -> PartRow:
    failed = row.failure is not None and not row.final
    return PartRow(row.first, row.items, row.level, row.runs, row.tries, failed, row.succeeded, row.failed, row.rows)


def counted(job: JobTable) -> Counts:
    """What is planned and done, from the rows alone."""
    plan = job.workload.mini_batches[: job.planned]
    counts = Counts(
        planned_mini_batches=len(plan),
        planned_items=sum(len(each.items) for each in plan),
        planning_ended=job.planning_ended,
        unreadable_mini_batches=sum(each.unreadable for each in plan),
        failed_items=sum(len(each.items) for each in plan if each.unreadable),
    )
    for planned in plan:
        if not planned.unreadable and is_settled(planned, job.rows_of(planned.index)):
            _add(counts, job.rows_of(planned.index).values())
    return counts


def counted_of(job: JobTable, indexes: Sequence[int]) -> Counts:
    """What these settled mini-batches have counted."""
    counts = Counts()
    for index in indexes:
        _add(counts, job.rows_of(index).values())
    return counts


def _add(counts: Counts, rows: Collection[Row]) -> None:
    bad = any(row.failure is not None for row in rows)
    counts.failed_mini_batches += bad
    counts.succeeded_mini_batches += not bad
    for row in rows:
        counts.succeeded_items += row.succeeded
        counts.failed_items += row.failed if row.failure is None else row.items
        counts.rows += row.rows
