""".csv with a header, as pyarrow writes it: strings quoted, numbers and bools not, null as nothing at all.

In a single column null is `""`, since an empty line is no row.

    worker:  result ─▶ Arrow table ──CsvRenderer──▶ body of whole lines without header, schema = names and kinds
    storage: CsvWriter ─▶ one header; a body whose columns are the joined ones as it is, others read and written anew

What is no bool, int or float is a quoted string in the file, so only those three and null can need other bytes in a
joined column.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv

from batchmesh.rows.columns import Column, columns_of, schema_bytes
from batchmesh.rows.results import Rendered
from batchmesh.rows.table import as_strings, kind_of_type, table_of

if TYPE_CHECKING:
    from typing import BinaryIO

    from batchmesh.segment import Buffer

_BARE = ("null", "bool", "int", "float")
_NO_HEADER = csv.WriteOptions(include_header=False)
#: Ends the schema of a single column that holds null: its lines are empty where it does. (JSON ignores a space.)
_EMPTY_LINES = b" "
_EMPTY_LINE = re.compile(rb"^\n", re.MULTILINE)


class CsvRenderer:
    """The worker's side."""

    def render(self, result: Any) -> Rendered:
        """Lines without header."""
        table, mixed = table_of(result)
        columns = [Column(field.name, kind_of_type(field.type), field.name in mixed) for field in table.schema]
        schema = schema_bytes(columns)
        if table.num_columns == 1 and table.column(0).null_count:
            schema += _EMPTY_LINES
        return Rendered(schema, _lines(table), table.num_rows)


def _lines(table: pa.Table) -> bytes:
    if not table.num_columns or not table.num_rows:
        return b""
    texts = [column if kind_of_type(column.type) in _BARE else as_strings(column) for column in table.columns]
    sink = io.BytesIO()
    csv.write_csv(pa.Table.from_arrays(texts, names=table.column_names), sink, _NO_HEADER)
    return sink.getvalue()


class CsvWriter:
    """Writes bodies under one header."""

    def __init__(self, out: BinaryIO, columns: list[Column]) -> None:
        self._out = out
        self._columns = columns
        self._fits: dict[bytes, bool] = {}
        if columns:
            out.write((",".join(_quoted(column.name) for column in columns) + "\n").encode())

    def moves(self, schema: bytes) -> bool:
        """Whether the body goes as it is: same names in the same order, and no kind whose bytes differ."""
        fits = self._fits.get(schema)
        if fits is None:
            own = columns_of(schema)
            fits = [column.name for column in own] == [column.name for column in self._columns]
            fits = fits and all(map(_same_bytes, own, self._columns))
            fits = fits and not (len(self._columns) == 1 and schema.endswith(_EMPTY_LINES))
            if len(self._fits) < 1000:
                self._fits[schema] = fits
        return fits

    def write(self, schema: bytes, body: Buffer) -> None:
        """Adds a body, written anew where it does not fit."""
        self._out.write(body if self.moves(schema) else _anew(columns_of(schema), body, self._columns))

    def close(self) -> None:
        """Nothing is kept back."""


def _same_bytes(own: Column, joined: Column) -> bool:
    # An int is written the same in a column of floats (pyarrow writes 1.0 as 1); null is nothing in any column.
    return own.kind not in ("bool", "int", "float") or joined.kind in _BARE


def _anew(own: list[Column], body: Buffer, joined: list[Column]) -> bytes:
    """The lines of one frame in the joined columns."""
    if not len(body):
        return b""
    table = _read(own, body)
    at = {column.name: position for position, column in enumerate(own)}
    arrays = []
    for column in joined:
        position = at.get(column.name)
        array = pa.nulls(table.num_rows) if position is None else table.column(position)
        arrays.append(array if column.kind in _BARE else as_strings(array))
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


def _quoted(name: str) -> str:
    if any(mark in name for mark in ',"\r\n') or name != name.strip() or not name:
        return '"' + name.replace('"', '""') + '"'
    return name
