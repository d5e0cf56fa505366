"""Cuts the rows of a text table into runs of about so many bytes, or of exactly so many rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchmesh.data.places import Cut, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from batchmesh.data.records import Bytes, Marks
    from batchmesh.data.sampling import Scanner
    from batchmesh.data.size import MiniBatchSize


class Cutter:
    """Goes over the blocks once; holds one block's marks and where the open cut began."""

    def __init__(self, size: MiniBatchSize, scanner: Scanner, start: Place) -> None:
        self._size = size
        self._scanner = scanner
        self._start = self._here = self._last_end = start

    def cut(self, blocks: Iterable[Bytes]) -> Iterator[Cut]:
        """Cuts with at least one row each, in order, that together hold all rows.

        A quoted field that never ends is a cut of its own, the last one.
        """
        for block in blocks:
            yield from self._cut_block(self._scanner.scan(block))
        if self._scanner.inside and self._last_end.row > self._start.row:
            end, self._here = self._here, self._last_end
            yield self._close()
            self._here = end
        if self._scanner.is_open:
            self._here = self._here._replace(row=self._here.row + 1)
        if self._here.row > self._start.row:
            yield self._close()._replace(unterminated=self._scanner.inside)

    def _cut_block(self, marks: Marks) -> Iterator[Cut]:
        at, length = 0, len(marks.row_ends)
        positions = np.flatnonzero(marks.row_ends) if self._size.unit == "rows" else None
        while at < length:
            end = self._next_end(marks, at) if positions is None else self._nth_end(positions, at)
            if end is None:
                self._finish_block(marks, at)
                return
            self._here = _moved(self._here, marks, at, end + 1)
            at = end + 1
            yield self._close()

    def _next_end(self, marks: Marks, at: int) -> int | None:
        """The first row end that makes the open cut large enough, as an index into the block."""
        have = self._here.offset - self._start.offset
        first = at + max(0, self._size.amount - have - 1)
        if first >= len(marks.row_ends):
            return None
        found = first + int(np.argmax(marks.row_ends[first:]))
        return found if marks.row_ends[found] else None

    def _nth_end(self, positions: npt.NDArray[np.intp], at: int) -> int | None:
        """The row end that fills the open cut, as an index into the block."""
        need = self._size.amount - (self._here.row - self._start.row)
        index = int(np.searchsorted(positions, at)) + need - 1
        return int(positions[index]) if index < len(positions) else None

    def _finish_block(self, marks: Marks, at: int) -> None:
        behind = at + marks.row_ends[at:].tobytes().rfind(1) + 1
        if behind > at:
            self._here = self._last_end = _moved(self._here, marks, at, behind)
        self._here = _moved(self._here, marks, behind, len(marks.row_ends))

    def _close(self) -> Cut:
        cut = Cut(self._start, self._here)
        self._start = self._here
        return cut


def _moved(place: Place, marks: Marks, at: int, end: int) -> Place:
    return Place(
        place.offset + end - at,
        place.line + int(np.count_nonzero(marks.line_ends[at:end])),
        place.row + int(np.count_nonzero(marks.row_ends[at:end])),
    )
