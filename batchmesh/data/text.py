"""What CSV and JSON lines have in common: a file of records in lines.

planner: file ──blocks──▶ scanner ──marks──▶ Cutter ──▶ Cut + the file's columns ──▶ slice fields
worker:  slice fields ──▶ its bytes ──▶ rows, and the lines that bad rows begin in
"""

from __future__ import annotations

import os
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batchmesh.data.blocks import blocks, open_table
from batchmesh.data.cuts import Cutter
from batchmesh.data.pieces import TextFile, piece_of
from batchmesh.data.places import Cut, Place
from batchmesh.data.sampling import Sampler, draw
from batchmesh.data.size import MiniBatchSize, even_size
from batchmesh.data.slices import (
    RowFailure,
    SliceFields,
    UnreadableFile,
    UnreadableSlice,
    changed,
    check_size,
)
from batchmesh.data.sources import local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    import pandas as pd

    from batchmesh.data.columns import Column
    from batchmesh.data.records import CsvScanner, LineScanner
    from batchmesh.data.slices import Piece
    from batchmesh.data.sources import Source

BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_EVERYTHING = MiniBatchSize(2**62, "bytes")


@dataclass(frozen=True)
class TextTable:
    """One file as its splitter sees it; `body` is where its first row may begin, behind mark and header."""

    source: Source
    zipped: bool
    body: Place
    scanner: Callable[[], CsvScanner | LineScanner]
    whole_records: Callable[[bytes, bool], bytes]
    infer: Callable[[bytes], list[Column]]
    #: Fields of its slices that its format adds.
    extra: SliceFields


@contextmanager
def damage_as(error: type[Exception], path: str) -> Iterator[None]:
    """Whatever keeps a file from being read, as one sentence that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as cause:
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        raise error(f"{path} cannot be read: {reason or type(cause).__name__}") from None


def length_of_mark(path: str, start: bytes) -> int:
    """Bytes of the byte order mark that a file starts with.

    Errors: UnreadableFile for UTF-16.
    """
    if start.startswith(_UTF16):
        raise UnreadableFile(f"{path} cannot be read: it is UTF-16; convert it to UTF-8")
    return len(BOM) if start.startswith(BOM) else 0


def pieces(table: TextTable, size: MiniBatchSize, after: dict[str, int] | None) -> Iterator[Piece]:
    """The slices of one file of this host; a gzip file is one."""
    start, path = table.body if after is None else Place(**after), table.source.path
    of_file = TextFile({**table.extra, "file": path}, os.stat(path).st_size, table.zipped)
    found = _of_stream(table, start) if table.zipped else _of_file(table, size, start)
    for cut, columns in found:
        yield piece_of(cut, columns, of_file)


def _of_file(table: TextTable, size: MiniBatchSize, start: Place) -> Iterator[tuple[Cut, list[Column]]]:
    with open_table(table.source, False) as file:
        end = file.seek(0, SEEK_END)
        cutter = Cutter(even_size(size, end - table.body.offset), table.scanner(), start)
        columns: list[Column] | None = None
        file.seek(start.offset)
        for cut in cutter.cut(blocks(file)):
            if columns is None:
                columns = columns_of(table)
            yield cut, columns


def columns_of(table: TextTable) -> list[Column]:
    """Of a file that is not zipped: the same whoever asks, however its rows are cut."""
    with open_table(table.source, False) as file:
        return table.infer(draw(file, table.body.offset, file.seek(0, SEEK_END), table.whole_records))


def _of_stream(table: TextTable, start: Place) -> Iterator[tuple[Cut, list[Column]]]:
    cuts, columns = cuts_of_stream(table, start)
    for cut in cuts:
        yield cut, columns


def cuts_of_stream(table: TextTable, start: Place) -> tuple[list[Cut], list[Column]]:
    """What is left of a zipped file from `start` on: one cut, another one if a quoted field never ends, or none."""
    with open_table(table.source, True) as file:
        file.seek(start.offset)
        sampler = Sampler(table.scanner())
        cuts = list(Cutter(_EVERYTHING, sampler, start).cut(blocks(file, 256 * 1024)))
    return cuts, table.infer(sampler.sample()) if cuts else []


def load(fields: SliceFields) -> bytearray:
    """A slice's bytes behind one LF of our own, an empty line.

    pyarrow would otherwise take what looks like a byte order mark off the first value.
    Errors: UnreadableSlice.
    """
    data = bytearray(1 + fields["length"])
    data[0] = 10
    filled = 1
    with damage_as(UnreadableSlice, fields["file"]), open_table(local(fields["file"]), "zipped" in fields) as file:
        check_size(fields, os.fstat(file.fileno()).st_size)
        file.seek(fields["offset"])
        while filled < len(data) and (count := file.readinto(memoryview(data)[filled:])):  # type: ignore[attr-defined]
            filled += count
    if filled < len(data):
        raise changed(fields)
    return data


def to_pandas(table: pa.Table, columns: Sequence[Column]) -> pd.DataFrame:
    """A DataFrame with index 0..n-1, whose dtypes follow from the columns' types alone."""
    frame: pd.DataFrame = table.rename_columns([column.name for column in columns]).to_pandas(use_threads=False)
    for column in columns:
        if column.type == "optional_bool":
            frame[column.name] = frame[column.name].astype(object)
    return frame


class Records:
    """Where the records of a loaded slice are: one scan, made only when a row is bad."""

    def __init__(self, data: bytearray, scanner: CsvScanner | LineScanner) -> None:
        line_ends, ends, at = [], [], 0
        for block in blocks(BytesIO(data)):
            marks = scanner.scan(block)
            line_ends.append(np.flatnonzero(marks.line_ends) + at)
            ends.append(np.flatnonzero(marks.row_ends) + (at + 1))
            at += len(block)
        if scanner.is_open:
            ends.append(np.array([len(data)]))
        self._data, self._blank = data, scanner.blank
        self._line_ends, self._ends = np.concatenate(line_ends), np.concatenate(ends)

    def __len__(self) -> int:
        return len(self._ends)

    def bounds(self, index: int) -> tuple[int, int]:
        """From behind the record before, empty lines included, to its own end."""
        return int(self._ends[index - 1]) if index else 0, int(self._ends[index])

    def starts_and_ends(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """All bounds at once."""
        return np.concatenate(([0], self._ends[:-1])), self._ends

    def line(self, index: int) -> int:
        """In which line of the slice the record begins, from 0."""
        start, end = self.bounds(index)
        while start < end and self._data[start] in self._blank:
            start += 1
        return int(np.searchsorted(self._line_ends, start)) - 1  # less the LF of our own


def failure(fields: SliceFields, line: int, index: int, column: str | None, error: str) -> RowFailure:
    """Of the slice's row `index`, which begins in its line `line`, both from 0."""
    return RowFailure(fields["file"], fields["line"] + line, fields["row"] + index, column, error)
