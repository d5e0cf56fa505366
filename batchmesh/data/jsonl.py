"""JSON lines: a row is a line that holds an object; its keys are columns.

Slice fields: as of CSV, without a delimiter. A key that the sample does not hold becomes a further column of objects in
the mini-batches where it appears: no value is lost, and the other columns keep their types.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batchmesh.data import jsonl_values, text
from batchmesh.data.blocks import is_gzip, open_table
from batchmesh.data.columns import Column, with_given
from batchmesh.data.places import Place
from batchmesh.data.records import LineScanner
from batchmesh.data.sampling import whole_records
from batchmesh.data.slices import Batch, Piece, SliceFields, UnreadableFile, changed
from batchmesh.data.sources import local

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchmesh.data.size import MiniBatchSize
    from batchmesh.data.sources import Source


def split(
    path: str, size: MiniBatchSize, types: Mapping[str, str], after: dict[str, int] | None = None
) -> Iterator[Piece]:
    """The slices of one file in order, from `after` (an earlier Piece's) on; none if it has no rows.

    Errors: UnreadableFile.
    """
    with text.damage_as(UnreadableFile, path):
        yield from text.pieces(table(local(path), types), size, after)


def table(source: Source, types: Mapping[str, str]) -> text.TextTable:
    """Errors: UnreadableFile for UTF-16; OSError and its like."""

    def infer(sample: bytes) -> list[Column]:
        return with_given(jsonl_values.infer(sample), types)

    zipped = is_gzip(source)
    with open_table(source, zipped) as file:
        mark = text.length_of_mark(source.path, file.read(3))
    return text.TextTable(source, zipped, Place(mark, 1, 1), LineScanner, _whole_records, infer, {"kind": "jsonl"})


def _whole_records(piece: bytes, is_first: bool) -> bytes:
    return whole_records(piece, LineScanner(), is_first)


def read(fields: SliceFields) -> Batch:
    """The slice's rows as a DataFrame in file order, and its bad rows.

    Errors: UnreadableSlice if the file is gone or is no longer what was planned.
    """
    columns = [Column(*column) for column in fields["columns"]]
    data = text.load(fields)
    records = text.Records(data, LineScanner())
    if len(records) != fields["rows"]:
        raise changed(fields)
    table = jsonl_values.parse_plain(data, records, columns)
    if table is not None:
        return Batch(text.to_pandas(table, columns))
    frame, bad = jsonl_values.parse_each(data, records, columns)
    fail = partial(text.failure, fields)
    return Batch(frame, [fail(records.line(row.row), row.row, row.column, row.error) for row in bad])
