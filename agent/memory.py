"""How much memory the workers use, each with all that it has started, and which one uses too much.

thread: /proc ──5 a second──▶ bytes of each group ──overweight()──▶ Excess ──tell──▶ event loop, which ends it
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from . import cgroup, process_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Seconds between two samples, and between two looks for processes that the workers have started.
_PERIOD = 0.2
_LOOK = 1.0
#: What all workers together may take of the node's memory: the rest is for the kernel and those who keep it going.
_OF_THE_NODE = 0.95
#: Readings of the kernel's count, one at each look: an end that is told now was counted within the last of them.
_READINGS = 3


class Excess(NamedTuple):
    """One group that is to end. Sizes are bytes; `all_used` is 0 when the limit is that of each group."""

    group: int
    used: int
    limit: int
    all_used: int = 0

    def sentence(self, during: str) -> str:
        """`during` says what the worker was doing."""
        used, limit = _shown(self.used), _shown(self.limit)
        if self.all_used:
            return (
                f"The node's workers used {_shown(self.all_used)}, more than the {limit} that it has for them, and the "
                f"processes of this one the most, {used}, {during}; use fewer --slots, less memory or --worker-memory."
            )
        return (
            f"The worker's processes used {used}, more than their limit of {limit} (--worker-memory), {during}; "
            "use less memory, smaller mini-batches or a higher limit."
        )


def overweight(samples: Mapping[int, int], limit_each: int, limit_all: int) -> list[Excess]:
    """The groups to be ended: each that is over its limit, else the largest when all together are over theirs.

    `samples` are bytes by group; a limit of 0 is none.
    """
    over = [Excess(group, used, limit_each) for group, used in samples.items() if limit_each and used > limit_each]
    total = sum(samples.values())
    if over or not limit_all or total <= limit_all:
        return over
    largest = max(samples, key=lambda group: samples[group])
    return [Excess(largest, samples[largest], limit_all, total)]


class Scales:
    """Weighs the process groups of the node's workers, on a thread that lives while there are any."""

    def __init__(self, limit_each: int, limit_all: int, tell: Callable[[list[Excess]], None]) -> None:
        """`tell` is called on the thread; what it was told of is weighed no more. `limit_all` 0: as the node has it."""
        self._limit_each = limit_each
        self._limit_all = limit_all
        self._tell = tell
        self._lock = threading.Lock()
        self._groups: dict[int, Group] = {}
        self._thread: threading.Thread | None = None
        self._ended = deque[int](maxlen=_READINGS)

    def add(self, group: int) -> None:
        if not process_table.exists():
            return
        with self._lock:
            self._groups[group] = Group(group)
            if self._thread is None:
                self._thread = threading.Thread(target=self._weigh, name="batchmesh-memory", daemon=True)
                self._thread.start()

    def remove(self, group: int) -> None:
        with self._lock:
            self._groups.pop(group, None)

    def kernel_ended_one(self) -> bool:
        """Whether the kernel has ended a process of this control group for lack of memory in the last seconds."""
        now, before = cgroup.ended_for_memory(), list(self._ended)
        return now is not None and bool(before) and now > before[0]

    def _weigh(self) -> None:
        self._ended.clear()
        limit_all = self._limit_all or int(cgroup.memory_limit() * _OF_THE_NODE)
        known: set[int] = set()
        look_at = 0.0
        while groups := self._watched():
            now = time.monotonic()
            if now >= look_at:
                look_at = now + _LOOK
                known = self._look(groups, known)
            if over := self._judged(groups, limit_all):
                self._tell_of(over)
            time.sleep(_PERIOD)

    def _watched(self) -> dict[int, Group]:
        """The thread ends with the last one, and the next one begins another."""
        with self._lock:
            if not self._groups:
                self._thread = None
            return dict(self._groups)

    def _look(self, groups: dict[int, Group], known: set[int]) -> set[int]:
        """Which processes there are; only those that were not there at the last look are asked where they belong."""
        if (ended := cgroup.ended_for_memory()) is not None:
            self._ended.append(ended)
        here = set(process_table.pids())
        for pid in here - known:
            found = process_table.process(pid)
            if found is not None and found.group in groups:
                groups[found.group].pids.add(pid)
        for group in groups.values():
            group.pids &= here
        return here

    def _judged(self, groups: dict[int, Group], limit_all: int) -> list[Excess]:
        """At first by what costs little and may be too much; only then all are weighed with care."""
        samples = {number: group.estimate() for number, group in groups.items()}
        if not overweight(samples, self._limit_each, limit_all):
            return []
        weights = {number: group.weight() for number, group in groups.items()}
        return overweight(weights, self._limit_each, limit_all)

    def _tell_of(self, over: Iterable[Excess]) -> None:
        with self._lock:
            over = [each for each in over if self._groups.pop(each.group, None) is not None]
        with contextlib.suppress(RuntimeError):  # the loop that it is told to has ended
            self._tell(over)


class Group:
    """One process group, as its weighing knows it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pids = {number}
        #: Bytes of the last careful weighing that its end would not give back: mapped files, pages that others share.
        self._not_own = 0

    def estimate(self) -> int:
        """Bytes, by what the last careful weighing has found."""
        return max(0, self._resident() - self._not_own)

    def weight(self) -> int:
        """Bytes that the end of the whole group would give back."""
        for pid in list(self.pids):
            found = process_table.process(pid)
            if found is None or found.group != self.number:
                self.pids.discard(pid)
        resident, own = self._resident(), sum(process_table.own(pid) for pid in self.pids)
        self._not_own = max(0, resident - own)
        return own

    def _resident(self) -> int:
        return sum([process_table.resident(pid) for pid in self.pids])


def _shown(size: int) -> str:
    """Rounded up, so that what is more than a limit reads so."""
    if size < 2**30:
        return f"{math.ceil(size / 2**20):,} MB"
    return f"{math.ceil(size / 2**30 * 10) / 10:,.1f} GB"
