"""The line in which a job's mini-batches wait on this node until a worker has room."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runner import Runner

#: Attempt, mini-batch and part of it: what the scheduler is told of an attempt that this node has.
Held = tuple[int, int, int]


class Attempt:
    """One execution of one mini-batch, from its arrival to its answer. `payload` and `part` are opaque."""

    __slots__ = ("affinity", "attempt_id", "mini_batch", "part", "payload", "runner", "try_number")

    def __init__(
        self, attempt_id: int, mini_batch: int, try_number: int, payload: bytes, affinity: int, part: int = 0
    ) -> None:
        self.attempt_id = attempt_id
        self.mini_batch = mini_batch
        self.try_number = try_number
        self.payload = payload
        self.affinity = affinity
        self.part = part
        #: The worker that has it; None while it waits in line.
        self.runner: Runner | None = None


class Line:
    """First come, first served, except that equal affinities like to meet the worker that had their number last."""

    def __init__(self) -> None:
        self._line: deque[Attempt] = deque()
        self._liked: dict[int, int] = {}
        #: The latest one is of those that neighbours share something with.
        self.has_neighbours = False

    def __len__(self) -> int:
        return len(self._line)

    def append(self, attempt: Attempt) -> None:
        self._line.append(attempt)
        self.has_neighbours = attempt.affinity != 0

    def put_back(self, attempts: list[Attempt]) -> None:
        """To the front, in their order: they have waited longest."""
        self._line.extendleft(reversed(attempts))

    def remove(self, attempt: Attempt) -> None:
        self._line.remove(attempt)

    def clear(self) -> list[Attempt]:
        """Empties the line and returns what stood in it."""
        left = list(self._line)
        self._line.clear()
        return left

    def take(self, process: int, count: int) -> list[Attempt]:
        """The next `count` (or fewer) for the worker with that process number."""
        return [self._next(process) for _ in range(min(count, len(self._line)))]

    def forget(self, process: int) -> None:
        """A worker is gone, and with it what it had decoded."""
        self._liked.pop(process, None)

    def _next(self, process: int) -> Attempt:
        line = self._line
        if not line[0].affinity:
            return line.popleft()
        at = self._choose(self._liked.get(process, 0), process)
        chosen = line[at]
        del line[at]
        if chosen.affinity:
            self._liked[process] = chosen.affinity
        return chosen

    def _choose(self, mine: int, process: int) -> int:
        """Its own number first; then one that no other worker is at; then whatever stands first."""
        others = {number for other, number in self._liked.items() if other != process}
        free: int | None = None
        for at, attempt in enumerate(self._line):
            if mine and attempt.affinity == mine:
                return at
            if free is None and attempt.affinity not in others:
                free = at
        return free or 0
