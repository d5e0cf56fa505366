"""The time by which the Machine decides."""

from __future__ import annotations


class AwakeClock:
    """Seconds that stand still while this process does: what it slept through is nobody's delay.

    It is read several times a second, so that a longer `gap` was a sleep.
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._slept = 0.0
        self._read: float | None = None

    def at(self, now: float) -> float:
        """What it shows at monotonic second `now`."""
        since = 0.0 if self._read is None else now - self._read
        self._read = now
        if since > self._gap:
            self._slept += since
        return now - self._slept
