"""Bytes of results that the whole agent holds because storage has not acknowledged them yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Budget:
    """A bound that may be overstepped by what is under way already; while it is, nothing new is begun."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0
        self._on_room: set[Callable[[], None]] = set()

    @property
    def full(self) -> bool:
        return self.used >= self._limit

    def fits(self, size: int, coming: int) -> bool:
        """Whether `size` bytes more are within the bound, beside those that come already; alone, anything fits."""
        held = self.used + coming
        return not held or held + size <= self._limit

    def add(self, size: int) -> None:
        self.used += size

    def release(self, size: int) -> None:
        """Tells everyone who waits that there is room."""
        self.used -= size
        if not self.full:
            for tell in list(self._on_room):
                tell()

    def subscribe(self, tell: Callable[[], None]) -> None:
        """`tell` is called after each release that leaves room."""
        self._on_room.add(tell)

    def unsubscribe(self, tell: Callable[[], None]) -> None:
        self._on_room.discard(tell)
