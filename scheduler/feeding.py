"""The part of a job's plan that is open in the Machine: a window, read from the database as it gets room.

plan, durable ──┬──────────────(room)──────────────▶ take ──▶ MiniBatchesPlanned
                └──▶ database ──next_planned, in order──┘
held by a node ─────▶ database ──unsettled──▶ opened_for ──▶ AttemptsHeld
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from batchmesh.data.slices import decode_slice, encode_slice, part_of

from . import tables
from .events import MiniBatchesPlanned
from .isolation import Isolation, restored
from .model import MiniBatch
from .spec import limits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable
    from typing import Any

    from .events import Event
    from .jobs import JobRecord
    from .model import Limits
    from .planning import PlanRow
    from .store import Store
    from .tables import PlannedRow

#: Mini-batches read from the plan at once.
_PIECE = 2048


class Feed:
    """One job's. `window` is how many mini-batches may be open; `spawn` watches over what it begins."""

    def __init__(
        self,
        record: JobRecord,
        store: Store,
        window: int,
        tell: Callable[[Event], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._job_id = record.row.job_id
        self._number = record.row.number
        self._limits = limits_of(record.spec)
        self._store = store
        self._window = window
        self._tell = tell
        self._spawn = spawn
        #: Payload and affinity of each mini-batch that is open in the Machine.
        self._open: dict[int, tuple[bytes, int]] = {}
        #: The plan is durable up to here, and read up to there.
        self._planned = record.row.planned
        self._fed = 0
        self._reading = False
        #: Opened because a node held them, before the plan was read so far.
        self._early: set[int] = set()
        self._closed = False

    def close(self) -> None:
        """The job has ended: what is still being read is told to nobody."""
        self._closed = True

    @property
    def ahead(self) -> int:
        """How many mini-batches are planned and not opened yet. Any thread may ask."""
        return self._planned - self._fed

    def payload(self, mini_batch: MiniBatch) -> tuple[bytes, int]:
        """What travels of an open mini-batch, or of a part of it, and its affinity."""
        payload, affinity = self._open[mini_batch.index]
        if mini_batch.level:
            payload = encode_slice(part_of(decode_slice(payload), mini_batch.first, mini_batch.items))
        return payload, affinity

    def settle(self, indexes: Iterable[int]) -> None:
        """Nothing more is to come of these."""
        for index in indexes:
            self._open.pop(index, None)

    def reopen(self, rows: Iterable[PlannedRow]) -> list[MiniBatch]:
        """Opens settled mini-batches anew, for the caller to tell."""
        return [each for each in map(self._opened, rows) if isinstance(each, MiniBatch)]

    def grown(self, planned: int, rows: list[PlanRow]) -> None:
        """So many mini-batches more are durable; where there is room for them, they need not be read back."""
        first, self._planned = self._planned, self._planned + planned
        if len(self._open) + len(rows) <= self._window and self._fed == first and not self._reading:
            self._fed = self._planned
            new = [row for row in rows if row[5] is None]
            self._open.update({index: (payload, affinity) for _, index, _, affinity, payload, _ in new})
            self._tell(MiniBatchesPlanned(self._job_id, [MiniBatch(row[1], row[2]) for row in new]))
        self.go_on()

    def go_on(self) -> None:
        """Reads the next piece of the plan when the window has room for it."""
        if not self._reading and self._fed < self._planned and len(self._open) <= self._window - _PIECE:
            self._reading = True
            self._spawn(self._read(self._planned))

    async def opened_for(self, held: Collection[int]) -> tuple[list[MiniBatch], list[Isolation]]:
        """Of mini-batches that a node holds, those that are not settled and were not open yet: they are now."""
        unknown = sorted(self._unread(held))
        if not unknown:
            return [], []
        ask = partial(tables.unsettled, number=self._number, indexes=unknown)
        rows = await asyncio.wrap_future(self._store.read(ask))
        unread = self._unread(row.idx for row in rows)  # as it is now: the plan may have been read meanwhile
        self._early |= unread
        return _sorted_out(self._opened(row) for row in rows if row.idx in unread)

    def _unread(self, indexes: Iterable[int]) -> set[int]:
        """What was never opened: neither from the plan, which was read up to here, nor because a node held it."""
        return {index for index in indexes if index >= self._fed and index not in self._early}

    async def _read(self, planned: int) -> None:
        ask = partial(tables.next_planned, number=self._number, after=self._fed, count=_PIECE)
        rows = await asyncio.wrap_future(self._store.read(ask))
        if self._closed:
            return
        end = rows[-1].idx + 1 if rows else 0
        self._fed = end if len(rows) == _PIECE else max(planned, end)
        self._reading = False
        self._take([row for row in rows if row.idx not in self._early])
        self._early = {index for index in self._early if index >= self._fed}
        self.go_on()

    def _take(self, rows: Iterable[PlannedRow]) -> None:
        mini_batches, isolations = _sorted_out(map(self._opened, rows))
        if mini_batches or isolations:
            self._tell(MiniBatchesPlanned(self._job_id, mini_batches, isolations))

    def _opened(self, row: PlannedRow) -> MiniBatch | Isolation:
        self._open[row.idx] = (row.payload, row.affinity)
        return _opened(row, self._limits) if row.rows else MiniBatch(row.idx, row.items)


def _opened(row: PlannedRow, limits: Limits) -> MiniBatch | Isolation:
    """A mini-batch that has had outcomes, as they tell it: one that waits for its next try, or that is being split."""
    last = row.rows[-1]
    whole = len(row.rows) == 1 and not last.level
    if whole and (last.tries < limits.run_max_try or row.items == 1 or not limits.isolate_failures):
        return MiniBatch(row.idx, row.items, last.tries, ended=row.attempt)
    return restored(row.idx, row.items, row.rows)


def _sorted_out(found: Iterable[MiniBatch | Isolation]) -> tuple[list[MiniBatch], list[Isolation]]:
    mini_batches: list[MiniBatch] = []
    isolations: list[Isolation] = []
    for each in found:
        if isinstance(each, MiniBatch):
            mini_batches.append(each)
        else:
            isolations.append(each)
    return mini_batches, isolations
