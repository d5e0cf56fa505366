"""What one worker uses of what has been fetched for it, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Borrowed:
    """Mini-batches are numbered from 1 in the life of the worker; what is borrowed for 0, init() has asked for."""

    def __init__(self) -> None:
        self._held: list[tuple[int, Callable[[], None]]] = []
        self._ended = False

    def add(self, number: int, releases: list[Callable[[], None]]) -> None:
        """Borrows for that mini-batch; a worker that has ended gives back at once."""
        self._held.extend((number, each) for each in releases)
        if self._ended:
            self.give_back_all()

    def answered(self, number: int) -> None:
        """Gives back what was for the mini-batches up to that one."""
        held, self._held = self._held, []
        for each, release in held:
            if 0 < each <= number:
                release()
            else:
                self._held.append((each, release))

    def give_back_all(self) -> None:
        """The worker has ended."""
        self._ended = True
        held, self._held = self._held, []
        for _, release in held:
            release()
