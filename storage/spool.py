"""What a CommitOutput stream says, kept on disk until it is complete: there may be millions of places."""

from __future__ import annotations

import shutil
from array import array
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING

from batchmesh.errors import CutOff

from .processed import header_line, processed_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh.v1 import segment_pb2, storage_pb2

    #: Segment (an index into Spool.segments()), offset and length there, mini-batch, attempt.
    Place = tuple[int, int, int, int, int]

#: Type codes of the columns of places on the disk.
_CODES = "IQQQQ"
#: Places given out at a time.
_CHUNK = 4096
_BUFFER = 2**20

#: Files without rows that a report names.
_NAMED_FILES = 1000


class Spool:
    """One stream's content. All of it blocks. `folder` is its own; discard() removes it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._numbers: dict[str, int] = {}
        self._places = (folder / "places").open("wb", _BUFFER)
        self._counts = array("Q")  # places in each request that has any
        self._lines = (folder / "failed").open("wb", _BUFFER)
        self._failed = (array("Q"), array("Q"))  # mini-batch and length of each run of lines
        self.processed = folder / "processed.csv"
        self._processed = self.processed.open("w", _BUFFER, encoding="utf-8", newline="")
        self._processed.write(header_line())
        self.files_without_rows: list[str] = []
        self.files_without_rows_count = 0
        self._is_whole = False

    def add(self, request: storage_pb2.CommitOutputRequest) -> None:
        """Takes one request in; raises ValueError when its columns do not fit each other, and OSError."""
        self._add_places(request.places)
        self._processed.writelines(processed_lines(request.processed))
        for mini_batch, lines in zip(request.failed_mini_batch, request.failed_lines, strict=True):
            self._add_failed(mini_batch, lines)
        room = _NAMED_FILES - len(self.files_without_rows)
        self.files_without_rows += request.files_without_rows[: max(room, 0)]
        self.files_without_rows_count += len(request.files_without_rows)
        self._is_whole = request.complete

    def _add_places(self, places: segment_pb2.Places) -> None:
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in places.segments]
        segments = array("I", [numbers[index] for index in places.segment])
        rest = [places.offset, places.length, places.mini_batch, places.attempt_id]
        columns = [segments, *(array("Q", list(column)) for column in rest)]
        if len(set(map(len, columns))) > 1:
            raise ValueError("places have columns of different lengths")
        if segments:
            self._places.writelines(columns)
            self._counts.append(len(segments))

    def _add_failed(self, mini_batch: int, lines: bytes) -> None:
        if lines and not lines.endswith(b"\n"):
            lines += b"\n"
        self._lines.write(lines)
        self._failed[0].append(mini_batch)
        self._failed[1].append(len(lines))

    def complete(self) -> None:
        """The stream has ended; raises CutOff when its last request was not among what came."""
        if not self._is_whole:
            raise CutOff("The commit was cut off before its last request, and nothing was written; send it again.")
        for file in (self._places, self._lines, self._processed):
            file.close()

    def segments(self) -> list[str]:
        """Names of the segments, by their numbers in the places."""
        return list(self._numbers)

    def places(self) -> Iterator[list[Place]]:
        """The places in their order, some thousand at a time."""
        with (self._folder / "places").open("rb") as file:
            for count in self._counts:
                columns = [array(code) for code in _CODES]
                for column in columns:
                    column.fromfile(file, count)
                for begin in range(0, count, _CHUNK):
                    segments, *rest = (column[begin : begin + _CHUNK] for column in columns)
                    yield list(zip(segments, *rest, strict=True))

    def failed(self) -> Iterator[tuple[int, bytes]]:
        """(mini-batch, its lines), in the order of the mini-batches."""
        mini_batches, lengths = self._failed
        begins = array("Q", accumulate(lengths, initial=0))
        with (self._folder / "failed").open("rb") as file:
            for number in sorted(range(len(mini_batches)), key=mini_batches.__getitem__):
                file.seek(begins[number])
                yield mini_batches[number], file.read(lengths[number])

    def discard(self) -> None:
        """Leaves nothing behind."""
        for file in (self._places, self._lines, self._processed):
            with suppress(OSError):  # a full disk has been told of already
                file.close()
        shutil.rmtree(self._folder, ignore_errors=True)
