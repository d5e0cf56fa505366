"""Whether a service that died while nobody asked is started again, and how soon."""

from __future__ import annotations

from collections import deque

#: Seconds that a death is remembered.
_MEMORY = 60.0
#: Deaths within that time that a service may have; one more, and something is wrong that a start does not mend.
_MANY = 10
#: The same for deaths before it was ready even once.
_STILLBORN = 3
#: Seconds before a service is started again for the first time; doubles with each death that is remembered.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Deaths:
    """The deaths of one service. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()
        self._stillborn = 0

    def add(self, now: float, *, was_ready: bool) -> float | None:
        """Seconds to wait before the next start, or None when it has died too often."""
        while self._deaths and now - self._deaths[0] > _MEMORY:
            self._deaths.popleft()
        self._deaths.append(now)
        self._stillborn = 0 if was_ready else self._stillborn + 1
        if len(self._deaths) > _MANY or self._stillborn > _STILLBORN:
            return None
        return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (len(self._deaths) - 1)))
