"""Virtual time: what shall happen when, in order; and processes, which may be frozen or killed."""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Action = Callable[[], object]


class Clock:
    """Seconds since the world began. Actions due at the same moment happen in the order in which they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._due: list[tuple[float, int, Action]] = []

    def at(self, moment: float, action: Action) -> None:
        heapq.heappush(self._due, (max(moment, self.now), next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        self.at(self.now + seconds, action)

    def step(self) -> bool:
        """Lets the next thing happen; False when nothing is due any more."""
        if not self._due:
            return False
        self.now, _, action = heapq.heappop(self._due)
        action()
        return True


class Process:
    """What may be killed, and stopped for a while: what was due meanwhile happens when it goes on, in its order."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.alive = True
        self._frozen_until = 0.0
        self._missed: deque[Action] = deque()

    @property
    def awake(self) -> bool:
        return self.alive and self.clock.now >= self._frozen_until

    def freeze(self, seconds: float) -> None:
        self._frozen_until = max(self._frozen_until, self.clock.now + seconds)

    def later(self, seconds: float, action: Action) -> None:
        """Does it after so many seconds, if it still lives then."""
        self.clock.after(seconds, lambda: self.do(action))

    def do(self, action: Action) -> None:
        """Does it now, or when it is no longer frozen, or never."""
        if not self._missed and self.awake:
            action()
            return
        if not self._missed:
            self.clock.at(self._frozen_until, self._go_on)
        self._missed.append(action)

    def _go_on(self) -> None:
        while self._missed and self.awake:
            self._missed.popleft()()
        if self._missed and self.alive:
            self.clock.at(self._frozen_until, self._go_on)
