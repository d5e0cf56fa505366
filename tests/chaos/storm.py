"""Faults one after another while a job runs, several at once if they come so, each healed in its time."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.wire import Direction

from .faults import WORKER, Fault, Kind
from .mesh import NotNow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .mesh import ChaosMesh, Undo

#: Seconds between two looks at what is due.
_LOOK = 0.02
#: Kills of workers that one job bears: each is a try of whatever ran there.
_WORKER_KILLS = 3


#: Faults that one job bears at most, so that many jobs of all kinds meet some.
_EACH_JOB = 15


class Died(Exception):
    """A service ended by itself, which none may."""


class Storm:
    """`history` has one line for all that was done; `counts` says how often each fault happened."""

    def __init__(self, mesh: ChaosMesh, faults: Iterator[Fault], budget: int, say: Callable[[str], None]) -> None:
        self._mesh = mesh
        self._faults = faults
        self._say = say
        self._order = itertools.count()
        self._due: list[tuple[float, int, Fault, Undo]] = []
        self._next = next(faults)
        self._mortal_workers = 0
        self.left = budget
        self.counts: Counter[Kind] = Counter()

    def blow(self, ended: Callable[[], bool], *, spare_workers: bool) -> None:
        """Inflicts faults until the job has ended, or has had enough of them and the last one is over.

        `spare_workers`: the job's poison is to be the only thing that fails in it."""
        self._mortal_workers = 0 if spare_workers else _WORKER_KILLS
        at, enough = time.monotonic() + self._next.pause, max(0, self.left - _EACH_JOB)
        while (self.left > enough or self._due) and not ended():
            self._heal_due(time.monotonic())
            self._check_nothing_died()
            if self.left > enough and time.monotonic() >= at:
                self._strike(self._next)
                self._next = next(self._faults)
                at = time.monotonic() + self._next.pause
            time.sleep(_LOOK)

    def abate(self) -> None:
        """Heals everything now. A message that was to be lost and never came was no fault."""
        self._heal_due(float("inf"))
        never = self._mesh.heal()
        for kind, direction in ((Kind.LOSE, Direction.REQUESTS), (Kind.FAIL, Direction.RESPONSES)):
            self.counts[kind] -= never[direction]
            self.left += never[direction]
        self._check_nothing_died()

    def _strike(self, fault: Fault) -> None:
        if _claim(fault) in {_claim(each) for _, _, each, _ in self._due}:
            return
        if fault.target == WORKER and fault.kind is Kind.KILL:
            if not self._mortal_workers:
                return
            self._mortal_workers -= 1
        try:
            undo = self._mesh.inflict(fault)
        except NotNow:
            return
        self._say(str(fault))
        self.left -= 1
        self.counts[fault.kind] += 1
        if undo is not None:
            heapq.heappush(self._due, (time.monotonic() + fault.seconds, next(self._order), fault, undo))

    def _heal_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, fault, undo = heapq.heappop(self._due)
            undo()
            self._say(f"  over: {fault.kind.value}: {fault.target}")

    def _check_nothing_died(self) -> None:
        busy = {each.target for _, _, each, _ in self._due}
        for name, part in self._mesh.parts.items():
            if not part.alive and name not in busy:
                raise Died(f"{name} ended by itself, with status {part.process and part.process.returncode}")


def _claim(fault: Fault) -> str:
    """Two faults with the same claim do not happen at once. A service that starts may need its syncs."""
    of_the_machine = (Kind.DISK_FULL, Kind.CLOCK_JUMPS)
    return f"{fault.kind} {fault.target}" if fault.kind in of_the_machine else fault.target
