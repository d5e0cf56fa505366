"""Parquet: split by footers alone, read a row group at a time.

Slice fields: file, size (its bytes when it was planned), row (its first, from 1), rows, optional (integer and bool
columns with nulls, by the footers).
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from batchmesh.data.row_groups import Footer, RowGroup, pieces
from batchmesh.data.slices import Batch, SliceFields, UnreadableFile, UnreadableSlice, changed, check_size
from batchmesh.data.sources import local

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from batchmesh.data.size import MiniBatchSize
    from batchmesh.data.slices import Piece
    from batchmesh.data.sources import Source


def split(path: str, size: MiniBatchSize, after: dict[str, int] | None = None) -> Iterator[Piece]:
    """The slices of one file in order, from `after` (an earlier Piece's) on; none if it has no rows.

    Errors: UnreadableFile.
    """
    try:
        found, planned = footer(local(path)), os.stat(path).st_size
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {_reason(error)}") from None
    yield from pieces(found, {"file": path, "size": planned}, size, after)


def footer(source: Source) -> Footer:
    """Of the file, its footers alone are read, and those columns of which they do not say whether they hold nulls.

    Errors: UnreadableFile, and what the source raises beside OSError.
    """
    try:
        with source.open() as opened, pq.ParquetFile(opened) as file:
            return Footer(_groups_of(file.metadata), _columns_with_nulls(file))
    except (OSError, pa.ArrowException) as error:
        raise UnreadableFile(f"{source.path} cannot be read: {_reason(error)}") from None


def _groups_of(metadata: pq.FileMetaData) -> list[RowGroup]:
    groups, start = [], 0
    for number in range(metadata.num_row_groups):
        found = metadata.row_group(number)
        if found.num_rows:
            groups.append(RowGroup(number, start, found.num_rows, found.total_byte_size))
        start += found.num_rows
    return groups


def _columns_with_nulls(file: pq.ParquetFile) -> list[str]:
    """Statistics tell; of a column without them the values do."""
    schema, metadata = file.schema_arrow, file.metadata
    paths = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
    return [
        field.name
        for field in schema
        if (pa.types.is_integer(field.type) or pa.types.is_boolean(field.type))
        and field.name in paths
        and _has_nulls(file, paths[field.name])
    ]


def _has_nulls(file: pq.ParquetFile, column: int) -> bool:
    return any(_nulls_in(file, number, column) for number in range(file.metadata.num_row_groups))


def _nulls_in(file: pq.ParquetFile, group: int, column: int) -> int:
    found = file.metadata.row_group(group).column(column)
    if found.statistics is not None and found.statistics.has_null_count:
        return int(found.statistics.null_count)
    if not file.metadata.schema.column(column).max_definition_level:
        return 0
    return int(file.read_row_group(group, columns=[found.path_in_schema], use_threads=False).column(0).null_count)


def read(fields: SliceFields) -> Batch:
    """The slice's rows as a DataFrame in file order; Parquet has no bad rows.

    Errors: UnreadableSlice if the file is gone, damaged or no longer what was planned.
    """
    try:
        tables = list(_tables(fields))
    except (OSError, pa.ArrowException) as error:
        raise UnreadableSlice(f"{fields['file']} cannot be read: {_reason(error)}") from None
    if sum(table.num_rows for table in tables) != fields["rows"]:
        raise changed(fields)
    return Batch(_to_pandas(pa.concat_tables(tables), fields["optional"]))


def _tables(fields: SliceFields) -> Iterator[pa.Table]:
    """The slice's part of each row group it touches."""
    start, end = fields["row"] - 1, fields["row"] - 1 + fields["rows"]
    _cache.open(fields)
    for group in _cache.groups[max(0, bisect_right(_cache.starts, start) - 1) :]:
        if group.start >= end:
            return
        first, last = max(start, group.start), min(end, group.start + group.rows)
        if first < last:
            decoded = _cache.decoded(group.number, keep=end < group.start + group.rows)
            yield decoded.slice(first - group.start, last - first)


class _Cache:
    """The last file and the last row group of it: neighbouring slices come to one worker."""

    def __init__(self) -> None:
        #: Those of the file that have rows, and the row (from 0) that each begins with.
        self.groups: list[RowGroup] = []
        self.starts: list[int] = []
        self._key: tuple[str, int, int] | None = None
        self._file: pq.ParquetFile | None = None
        self._group: tuple[int, pa.Table] | None = None

    def open(self, fields: SliceFields) -> None:
        path = fields["file"]
        found = os.stat(path)
        check_size(fields, found.st_size)
        key = (path, found.st_size, found.st_mtime_ns)
        if key != self._key:
            self.forget()
            self._file = pq.ParquetFile(path)
            self.groups = _groups_of(self._file.metadata)
            self.starts = [group.start for group in self.groups]
            self._key = key

    def decoded(self, group: int, *, keep: bool) -> pa.Table:
        """All of it; kept while further slices of it are likely."""
        held, self._group = self._group, None
        if held is None or held[0] != group:
            held = None  # before the next one is decoded: never two at once
            assert self._file is not None
            held = group, self._file.read_row_group(group, use_threads=False)
        self._group = held if keep else None
        return held[1]

    def forget(self) -> None:
        if self._file is not None:
            self._file.close()
        self._key = self._file = self._group = None
        self.groups, self.starts = [], []


_cache = _Cache()


def _to_pandas(table: pa.Table, optional: list[str]) -> pd.DataFrame:
    """Index 0..n-1 whatever index the file's writer had: that one is a column."""
    frame: pd.DataFrame = table.to_pandas(use_threads=False, ignore_metadata=True)
    for name in optional:
        is_bool = pa.types.is_boolean(table.schema.field(name).type)
        frame[name] = frame[name].astype(object if is_bool else "float64")
    return frame


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return reason.splitlines()[0].rstrip(".") if reason else type(error).__name__
