"""Parquet: split by footers alone, read a row group at a time.

Slice fields: file, size (its bytes when it was planned), row (its first, from 1), rows, optional (integer and bool
columns with nulls, by the footers).
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from batchmesh.data.slices import Batch, Piece, SliceFields, UnreadableFile, UnreadableSlice, changed, check_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from batchmesh.data.size import MiniBatchSize


def split(path: str, size: MiniBatchSize, after: dict[str, int] | None = None) -> Iterator[Piece]:
    """The slices of one file in order, from `after` (an earlier Piece's) on; none if it has no rows.

    Errors: UnreadableFile.
    """
    try:
        with pq.ParquetFile(path) as file:
            groups, optional = _groups_of(file.metadata), _columns_with_nulls(file)
        of_all = {"kind": "parquet", "file": path, "size": os.stat(path).st_size, "optional": optional}
    except (OSError, pa.ArrowException) as error:
        raise UnreadableFile(f"{path} cannot be read: {_reason(error)}") from None
    first = 0 if after is None else after["row"]
    for run in _by_rows(groups, size.amount) if size.unit == "rows" else _by_bytes(groups, size.amount):
        if run.start >= first:
            affinity = 0 if run.group is None else _affinity(path, run.group)
            fields = {**of_all, "row": run.start + 1, "rows": run.rows}
            yield Piece(run.rows, fields, affinity, {"row": run.start + run.rows})


class _Group(NamedTuple):
    number: int
    start: int
    rows: int
    bytes: int


class _Run(NamedTuple):
    """Rows from `start` (from 0) on; `group` is the row group it shares with neighbours, None if it shares none."""

    start: int
    rows: int
    group: int | None


def _groups_of(metadata: pq.FileMetaData) -> list[_Group]:
    groups, start = [], 0
    for number in range(metadata.num_row_groups):
        found = metadata.row_group(number)
        if found.num_rows:
            groups.append(_Group(number, start, found.num_rows, found.total_byte_size))
        start += found.num_rows
    return groups


def _by_rows(groups: list[_Group], amount: int) -> Iterator[_Run]:
    """Exactly `amount` rows each, whatever the row groups are; neighbours begin in the same one."""
    total = groups[-1].start + groups[-1].rows if groups else 0
    at = 0
    for start in range(0, total, amount):
        while start >= groups[at].start + groups[at].rows:
            at += 1
        yield _Run(start, min(amount, total - start), groups[at].number)


def _by_bytes(groups: list[_Group], amount: int) -> Iterator[_Run]:
    """Large row groups in even parts, small ones joined; no run reaches into a row group that others read, too."""
    joined: list[_Group] = []
    for group in groups:
        if joined and sum(each.bytes for each in joined) + group.bytes > amount:
            yield _joined(joined)
            joined = []
        if group.bytes > amount:
            yield from _parts(group, amount)
        else:
            joined.append(group)
    if joined:
        yield _joined(joined)


def _joined(groups: list[_Group]) -> _Run:
    return _Run(groups[0].start, sum(group.rows for group in groups), None)


def _parts(group: _Group, amount: int) -> Iterator[_Run]:
    """A row's bytes are the group's divided by its rows."""
    count = min(group.rows, -(-group.bytes // amount))
    edges = [group.rows * index // count for index in range(count + 1)]
    for start, end in zip(edges, edges[1:]):  # noqa: B905, RUF007  (CPython 3.9)
        yield _Run(group.start + start, end - start, group.number)


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


def _affinity(path: str, group: int) -> int:
    """The same in every process, never 0, below 2 ** 63."""
    digest = hashlib.blake2b(os.fsencode(path) + b"\0%d" % group, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1 or 1


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
    file = _cache.open(fields)
    for group in _groups_of(file.metadata):
        first, last = max(start, group.start), min(end, group.start + group.rows)
        if first < last:
            yield _cache.decoded(group.number).slice(first - group.start, last - first)


class _Cache:
    """The last file and the last row group of it: neighbouring slices come to one worker."""

    def __init__(self) -> None:
        self._key: tuple[str, int, int] | None = None
        self._file: pq.ParquetFile | None = None
        self._group: tuple[int, pa.Table] | None = None

    def open(self, fields: SliceFields) -> pq.ParquetFile:
        path = fields["file"]
        found = os.stat(path)
        check_size(fields, found.st_size)
        key = (path, found.st_size, found.st_mtime_ns)
        if key != self._key:
            self.forget()
            self._file, self._key = pq.ParquetFile(path), key
        return self._file

    def decoded(self, group: int) -> pa.Table:
        if self._group is None or self._group[0] != group:
            self._group = None  # before the next one is decoded: never two at once
            assert self._file is not None
            self._group = group, self._file.read_row_group(group, use_threads=False)
        return self._group[1]

    def forget(self) -> None:
        if self._file is not None:
            self._file.close()
        self._key = self._file = self._group = None


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
