"""What has become of one job, kept from events, commands and durable rows alone; audit.py checks the Machine by it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from batchmesh.scheduler.events import (
    AttemptsEnded,
    CreditsGranted,
    FramesDamaged,
    JobSubmitted,
    NodeLost,
    OutputCommitted,
    PlanGrew,
    PoolChanged,
    StreamEnded,
    Ticked,
)
from batchmesh.scheduler.model import ACTIVE, FailureKind, PoolPhase

from .database import is_settled, opened

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Sequence

    from batchmesh.scheduler.events import AttemptEnd, Event
    from batchmesh.scheduler.machine import Machine
    from batchmesh.scheduler.model import MiniBatch

    from .database import JobTable, Row

_CRASHES = frozenset({FailureKind.WORKER_CRASHED, FailureKind.OUT_OF_MEMORY})


class Part(NamedTuple):
    """What an attempt is of: a range of items of a mini-batch, at a level of its isolation."""

    mini_batch: int
    level: int
    first: int
    items: int


def part_of(mini_batch: MiniBatch | Row) -> Part:
    return Part(mini_batch.index, mini_batch.level, mini_batch.first, mini_batch.items)


class Out(NamedTuple):
    """An attempt that the scheduler believes to be out, and since when."""

    part: Part
    node_id: str
    since: float


class Good(NamedTuple):
    """A success that was told."""

    items: int
    attempt: int
    succeeded: int
    rows: int


class Tally(NamedTuple):
    """What one settled mini-batch counts."""

    succeeded: int
    failed: int
    rows: int
    is_failed: bool


@dataclass(eq=False, slots=True)
class Pool:
    """What has been told of one node's pool since its stream was asked for."""

    window: int = 0
    workers: int = 0
    adrift_since: float = -1.0


@dataclass(eq=False, slots=True)
class Book:
    """One job."""

    table: JobTable
    lease: float
    #: How often what has been met, by name.
    met: Counter[str]
    #: Raises a violation.
    violated: Callable[[str], NoReturn]
    # -- in this life of the scheduler --
    out: dict[int, Out] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)
    awaited_until: float = 0.0
    losses: dict[Part, int] = field(default_factory=lambda: defaultdict(int))
    #: Of each part, the latest attempt whose end was told.
    told: dict[Part, int] = field(default_factory=dict)
    #: Mini-batches, items, unreadable ones of the plan, as far as it was told; and whether it has ended.
    planned: list[int] = field(default_factory=lambda: [0, 0, 0])
    planning_ended: bool = False
    #: Mini-batches that have ended a worker.
    crashed: set[int] = field(default_factory=set)
    #: Attempts that have just lost a race, and where they are out.
    losers: dict[int, str] = field(default_factory=dict)
    #: Outputs that are being committed or discarded at present.
    publishing: int = 0
    # -- in all its lives --
    seen: set[int] = field(default_factory=set)
    good: dict[int, dict[int, Good]] = field(default_factory=lambda: defaultdict(dict))
    settled: dict[int, Tally] = field(default_factory=dict)
    #: Attempts of whole mini-batches whose failure is durable.
    failed: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    #: Runs of parts whose end is durable, and the latest attempt of each part that is.
    runs: dict[int, set[Part]] = field(default_factory=lambda: defaultdict(set))
    ended: dict[Part, int] = field(default_factory=dict)
    sent_to: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    #: Attempts that nobody need go on with.
    given_up: set[int] = field(default_factory=set)
    #: Mini-batches that had two attempts at once: the last of these may be more than the tries.
    doubled: set[int] = field(default_factory=set)
    #: Mini-batches of which a loss was recorded as a try; their fate is not the plain loop's.
    lost_for_good: set[int] = field(default_factory=set)
    pool_failed: bool = False
    cancelled: bool = False

    @property
    def job_id(self) -> str:
        return self.table.workload.job_id

    def fail(self, sentence: str) -> NoReturn:
        self.violated(f"{self.job_id}: {sentence}")

    def items_of(self, index: int) -> int:
        return len(self.table.workload.mini_batches[index].items)

    def out_on(self, node_id: str) -> list[int]:
        """Oldest first."""
        return sorted(attempt for attempt, out in self.out.items() if out.node_id == node_id)

    def bring_back(self, attempts: Iterable[int]) -> None:
        for attempt in list(attempts):
            self.out.pop(attempt, None)

    # ---- the database ----

    def on_row(self, row: Row) -> None:
        """An outcome has become durable."""
        part = part_of(row)
        self.ended[part] = max(self.ended.get(part, 0), row.attempt)
        if not row.level:
            if row.failure is not None:
                self.failed[row.index].add(row.attempt)
            return
        self.runs[row.index].add(part)
        most = 4 * math.ceil(math.log2(self.items_of(row.index)))
        if len(self.runs[row.index]) > most:
            self.fail(f"mini-batch {row.index} took more than {most} extra runs")
        if row.items == 1 and sum([each.first == row.first and each.items == 1 for each in self.runs[row.index]]) > 2:
            self.fail(f"item {row.first} of mini-batch {row.index} ran alone more than twice")

    def on_undone(self, row: Row) -> None:
        """A success in the database is about to be replaced."""
        if row.first in self.good.get(row.index, {}):
            self.fail(f"the told success of mini-batch {row.index} from item {row.first} is replaced")

    def on_reopened(self, indexes: Sequence[int]) -> None:
        """Frames were damaged: what was told of these mini-batches is taken back."""
        for index in indexes:
            for some in (self.good, self.failed, self.runs, self.settled):
                some.pop(index, None)
            self.crashed.discard(index)
            for by_part in (self.ended, self.told, self.losses):
                for part in [part for part in by_part if part.mini_batch == index]:
                    del by_part[part]

    # ---- what events say ----

    def take(self, machine: Machine, event: Event, now: float) -> None:
        """Takes in what an event says, before the Machine does."""
        match event:
            case JobSubmitted():
                self._submitted(event, now)
            case PlanGrew():
                self._plan_grew(event, machine)
            case AttemptsEnded():
                for end in event.ends:
                    self._attempt_ended(end)
            case FramesDamaged() | OutputCommitted():
                self.publishing -= 1
            case Ticked():
                self._ticked(now)
            case _:
                self._take_of_node(machine, event, now)

    def _take_of_node(self, machine: Machine, event: Event, now: float) -> None:
        match event:
            case NodeLost():
                self._node_lost(event)
            case StreamEnded():
                self._stream_ended(event, machine, now)
            case PoolChanged() if event.node_id in self.pools:
                self._pool_changed(event)
            case CreditsGranted() if event.node_id in self.pools:
                pool = self.pools[event.node_id]
                if pool.adrift_since < 0 and machine.nodes.get(event.node_id):
                    pool.window += event.credits
            case _:
                pass

    def _plan_grew(self, event: PlanGrew, machine: Machine) -> None:
        job = machine.jobs.get(self.job_id)
        if job is not None and job.state in ACTIVE:
            self.planned[0] += event.mini_batches
            self.planned[1] += event.items
            self.planned[2] += event.unreadable
            self.planning_ended = self.planning_ended or event.ended

    def _submitted(self, event: JobSubmitted, now: float) -> None:
        """A new life: what was told done is done; the nodes that serve the job are asked before anything runs."""
        self.out.clear()
        self.pools.clear()
        self.losses.clear()
        self.told.clear()
        self.crashed.clear()
        self.publishing = 0
        self.awaited, self.awaited_until = set(self.table.serving), now + self.lease
        counts = event.counts
        self.planned = [counts.planned_mini_batches, counts.planned_items, counts.unreadable_mini_batches]
        self.planning_ended = counts.planning_ended
        self._nothing_untold()
        self._read_rows()

    def _nothing_untold(self) -> None:
        for index, parts in self.good.items():
            rows = self.table.rows_of(index)
            for first, good in parts.items():
                row = rows.get(first)
                if row is None or row.failure is not None or row.attempt != good.attempt:
                    self.fail(f"the told success of mini-batch {index} from item {first} is gone")
        for index in self.settled:
            left = opened(self.table, index)
            if left is not None and getattr(left, "open", True):
                self.fail(f"mini-batch {index} was settled, and is open again")

    def _read_rows(self) -> None:
        """Successes that were durable and had not been told yet are told now, by the counts."""
        self.settled = {}
        for planned in self.table.workload.mini_batches[: self.table.planned]:
            rows = self.table.rows_of(planned.index)
            for row in rows.values():
                if row.failure is None:
                    self.good[row.index][row.first] = Good(row.items, row.attempt, row.succeeded, row.rows)
            if not planned.unreadable and is_settled(planned, rows):
                self.settled[planned.index] = self.tally(planned.index)

    def tally(self, index: int) -> Tally:
        """What a settled mini-batch counts: its told successes; all else of it has failed."""
        parts = self.good.get(index, {}).values()
        succeeded = sum([part.succeeded for part in parts])
        whole = self.items_of(index)
        is_failed = sum([part.items for part in parts]) < whole
        return Tally(succeeded, whole - succeeded, sum([part.rows for part in parts]), is_failed)

    def _attempt_ended(self, end: AttemptEnd) -> None:
        out = self.out.pop(end.attempt_id, None)
        if out is None:
            return
        self.told[out.part] = max(self.told.get(out.part, 0), end.attempt_id)
        if end.failure is not None:
            if end.failure.kind in _CRASHES:
                self.crashed.add(out.part.mini_batch)
            return
        index, _, first, items = out.part
        row = self.table.rows_of(index).get(first)
        if row is None or row.failure is not None or row.attempt != end.attempt_id:
            self.fail(f"a success of mini-batch {index} was told that is not in the database")
        for other, good in self.good[index].items():
            if other < first + items and first < other + good.items:
                self.fail(f"items of mini-batch {index} from {first} on have succeeded twice")
        self.good[index][first] = Good(items, end.attempt_id, end.succeeded_items, end.rows)
        for other in [other for other, slower in self.out.items() if slower.part == out.part]:
            self.losers[other] = self.out.pop(other).node_id

    def _node_lost(self, event: NodeLost) -> None:
        """Its attempts wait again. Those whose loss is to be recorded stay out; the commands say which."""
        node_id = event.node_id
        pool = self.pools.pop(node_id, None)
        self.awaited.discard(node_id)
        self.given_up |= self.sent_to[node_id]
        if pool is None:
            return
        out = self.out_on(node_id)
        kept: set[int] = set()
        if not event.left:
            kept = {attempt for attempt in out[: max(1, pool.workers)] if self._lost_too_often(attempt)}
        self.bring_back([attempt for attempt in out if attempt not in kept])
        for attempt in kept:
            self.out[attempt] = Out(self.out[attempt].part, "", self.out[attempt].since)

    def _lost_too_often(self, attempt: int) -> bool:
        part = self.out[attempt].part
        self.losses[part] += 1
        return self.losses[part] > 3

    def _stream_ended(self, event: StreamEnded, machine: Machine, now: float) -> None:
        pool = self.pools.get(event.node_id)
        if event.broken and pool is not None and event.node_id in machine.nodes:
            pool.window = 0
            pool.adrift_since = now if pool.adrift_since < 0 else pool.adrift_since
            return
        if not event.broken:
            self.awaited.discard(event.node_id)
        if pool is not None:
            self._pool_gone(event.node_id)

    def _pool_gone(self, node_id: str) -> None:
        del self.pools[node_id]
        self.given_up |= self.sent_to[node_id]
        self.bring_back(self.out_on(node_id))

    def _pool_changed(self, event: PoolChanged) -> None:
        self.pools[event.node_id].workers = event.workers
        if event.phase is PoolPhase.FAILED:
            self.pool_failed = True
            self._pool_gone(event.node_id)

    def _ticked(self, now: float) -> None:
        if now >= self.awaited_until:
            for node_id in self.awaited:
                self.given_up |= self.sent_to[node_id]
            self.awaited.clear()
        for node_id, pool in self.pools.items():
            if pool.adrift_since >= 0 and now >= pool.adrift_since + self.lease:
                self.given_up |= self.sent_to[node_id]
                self.bring_back(self.out_on(node_id))
