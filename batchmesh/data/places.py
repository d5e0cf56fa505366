"""Where the rows of a text table are cut."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A byte of a file, the line it begins (from 1) and the row that is next there (from 1)."""

    offset: int
    line: int
    row: int


class Cut(NamedTuple):
    """`rows` rows from `start` on, up to byte `end.offset`; of an `unterminated` one a quoted field never ends."""

    start: Place
    end: Place
    unterminated: bool = False

    @property
    def rows(self) -> int:
        return self.end.row - self.start.row
