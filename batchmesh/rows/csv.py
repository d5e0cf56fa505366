""".csv with a header, as pyarrow writes it: strings quoted, numbers and bools not, null as nothing at all.

In a single column null is `""`, since an empty line is no row.

    worker:  result ─▶ Arrow table ──CsvRenderer──▶ body of whole lines without header, schema = names and kinds
    storage: a body whose columns are not the joined ones ──anew──▶ its lines in those (all others: csv_writer.py)
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv

from batchmesh.rows.columns import Column, columns_of, schema_bytes
from batchmesh.rows.csv_writer import BARE, EMPTY_LINES
from batchmesh.rows.results import Rendered
from batchmesh.rows.table import as_strings, kind_of_type, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchmesh.segment import Buffer

_NO_HEADER = csv.WriteOptions(include_header=False)
_EMPTY_LINE = re.compile(rb"^\n", re.MULTILINE)


class CsvRenderer:
    """The worker's side."""

    def render(self, result: Any) -> Rendered:
        """Lines without header."""
        table, mixed = table_of(result)
        columns = [Column(field.name, kind_of_type(field.type), field.name in mixed) for field in table.schema]
        schema = schema_bytes(columns)
        if table.num_columns == 1 and table.column(0).null_count:
            schema += EMPTY_LINES
        return Rendered(schema, _lines(table), table.num_rows)


def _lines(table: pa.Table) -> bytes:
    if not table.num_columns or not table.num_rows:
        return b""
    texts = [column if kind_of_type(column.type) in BARE else as_strings(column) for column in table.columns]
    sink = io.BytesIO()
    csv.write_csv(pa.Table.from_arrays(texts, names=table.column_names), sink, _NO_HEADER)
    return sink.getvalue()


def anew(schema: bytes, bodies: Sequence[Buffer], joined: list[Column]) -> Iterator[bytes]:
    """The lines of frames with this schema in the joined columns, all at once where that makes no difference."""
    own, body = columns_of(schema), bodies[0] if len(bodies) == 1 else b"".join(bodies)
    try:
        if len(body):
            yield _lines_anew(own, _read_with(own, body, pa.int64()), joined)
    except pa.ArrowInvalid:  # ints beyond 2^63, whose type is that of all ints of a frame
        for each in filter(len, bodies):
            yield _lines_anew(own, _read(own, each), joined)


def _lines_anew(own: list[Column], table: pa.Table, joined: list[Column]) -> bytes:
    at = {column.name: position for position, column in enumerate(own)}
    arrays = []
    for column in joined:
        position = at.get(column.name)
        array = pa.nulls(table.num_rows) if position is None else table.column(position)
        arrays.append(array if column.kind in BARE else as_strings(array))
    if len(arrays) == 1:
        return _without_empty_lines(arrays[0])
    return _lines(pa.Table.from_arrays(arrays, names=[column.name for column in joined]))


def _without_empty_lines(values: Any) -> bytes:
    """The lines of the only column, with a quoted nothing for null: readers skip an empty line, and lose the row."""
    if kind_of_type(values.type) == "string":
        return _lines(pa.table({"": values.fill_null("")}))
    return _EMPTY_LINE.sub(b'""\n', _lines(pa.table({"": values})))


def _read(own: list[Column], body: Buffer) -> pa.Table:
    """The table as it was written: quoted nothing is an empty string, bare nothing is null."""
    for ints in (pa.int64(), pa.uint64()):
        try:
            return _read_with(own, body, ints)
        except pa.ArrowInvalid:
            continue
    return _read_with(own, body, pa.float64())  # signed ones beside unsigned ones beyond 2^63


def _read_with(own: list[Column], body: Buffer, ints: pa.DataType) -> pa.Table:
    bare = {"null": pa.null(), "bool": pa.bool_(), "int": ints, "float": pa.float64()}
    names = [str(position) for position in range(len(own))]
    types = {name: bare.get(column.kind, pa.string()) for name, column in zip(names, own)}  # noqa: B905 CPython 3.9
    return csv.read_csv(
        pa.BufferReader(pa.py_buffer(body)),
        csv.ReadOptions(column_names=names, block_size=min(max(len(body), 1 << 20), (1 << 31) - 1)),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
