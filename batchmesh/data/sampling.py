"""A sample of a text table to infer its types from: up to 16 MB of whole records, drawn over its whole length."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple, Union

import numpy as np

from batchmesh.data.blocks import blocks
from batchmesh.data.records import CsvScanner, LineScanner, Marks

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from batchmesh.data.records import Bytes

LIMIT = 16 * 1024 * 1024
PIECES = 64


def draw(file: BinaryIO, start: int, end: int, whole_records: Callable[[bytes, bool], bytes]) -> bytes:
    """All from `start` to `end` when that is no more than LIMIT, else PIECES evenly spaced pieces of it.

    `whole_records(piece, is_first)` leaves of a piece the records that are whole; the first begins with one.
    """
    if end - start <= LIMIT:
        return _read(file, start, end - start)
    length = LIMIT // PIECES
    step = (end - start - length) / (PIECES - 1)
    drawn = [whole_records(_read(file, start + int(i * step), length), i == 0) for i in range(PIECES)]
    return b"".join(drawn) or whole_records(_read(file, start, LIMIT), True)


def whole_records(piece: bytes, scanner: CsvScanner | LineScanner, is_first: bool) -> bytes:
    """What lies between the first and the last row end; with `is_first` also what is before."""
    start = 0 if is_first else None
    end = at = 0
    for block in blocks(BytesIO(piece)):
        row_ends = scanner.scan(block).row_ends.tobytes()
        last = row_ends.rfind(1) + 1
        if last:
            start = at + row_ends.find(1) + 1 if start is None else start
            end = at + last
        at += len(block)
    return piece[start:end]


class Sampler:
    """A scanner that keeps a sample of what it scans, of a stream whose length is not known beforehand.

    It keeps every block until they are too many, then every second one, and so on.
    """

    def __init__(self, scanner: CsvScanner | LineScanner) -> None:
        self._scanner = scanner
        self._kept: list[_Block] = []
        self._bytes = self._seen = 0
        self._stride = 1

    @property
    def inside(self) -> bool:
        return self._scanner.inside

    @property
    def is_open(self) -> bool:
        return self._scanner.is_open

    def scan(self, block: Bytes) -> Marks:
        marks = self._scanner.scan(block)
        if self._seen % self._stride == 0:
            ends = np.flatnonzero(marks.row_ends)
            first, last = (int(ends[0]) + 1, int(ends[-1]) + 1) if len(ends) else (0, 0)
            self._kept.append(_Block(block.tobytes(), 0 if self._seen == 0 else first, last))
            self._bytes += len(block)
        self._seen += 1
        while self._bytes > LIMIT and len(self._kept) > 1:
            self._kept = self._kept[::2]
            self._bytes = sum(len(kept.data) for kept in self._kept)
            self._stride *= 2
        return marks

    def sample(self) -> bytes:
        if self._stride == 1:
            return b"".join(kept.data for kept in self._kept)
        return b"".join(kept.data[kept.first : kept.last] for kept in self._kept)


class _Block(NamedTuple):
    """Its whole records are those from `first` to `last`."""

    data: bytes
    first: int
    last: int


Scanner = Union[CsvScanner, LineScanner, Sampler]  # noqa: UP007  (CPython 3.9)


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    parts = []
    while length > 0 and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
