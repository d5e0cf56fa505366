"""pyarrow's CSV parser under our settings: one block, one thread, columns by number, bad rows told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.csv

from batchmesh.data.columns import Column, inferred

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST_BLOCK = 1024 * 1024 * 1024

#: What counts as an empty value in a column that is not text: pyarrow's own list.
EMPTY_VALUES: tuple[str, ...] = tuple(pa.csv.ConvertOptions().null_values)
BOOL_VALUES: tuple[str, ...] = (*pa.csv.ConvertOptions().true_values, *pa.csv.ConvertOptions().false_values)


class Ragged(NamedTuple):
    """A row with the wrong number of fields: which one, from 0 and without empty lines, and how many it has."""

    row: int
    fields: int


def parse(
    data: bytes | bytearray, width: int, delimiter: str, types: Sequence[pa.DataType] | None
) -> tuple[pa.Table, list[Ragged]]:
    """The rows that have `width` fields, in columns "0", "1", …; without `types` these are inferred.

    `data` begins with a record or an LF, and holds no header.
    Errors: pyarrow.ArrowInvalid if a value does not fit its type.
    """
    ragged: list[Ragged] = []

    def note(row: pa.csv.InvalidRow) -> str:
        ragged.append(Ragged(row.number - 1, row.actual_columns))
        return "skip"

    names = [str(index) for index in range(width)]
    table = pa.csv.read_csv(
        pa.BufferReader(data),
        pa.csv.ReadOptions(use_threads=False, block_size=min(len(data) + 1, _LARGEST_BLOCK), column_names=names),
        pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note),
        pa.csv.ConvertOptions(column_types=None if types is None else pa.schema(zip(names, types))),  # noqa: B905
    )
    return table, ragged


def infer(sample: bytes, names: Sequence[str], delimiter: str) -> list[Column]:
    """The columns of a file, from whole records of it; a column of empty values only is string."""
    table, _ = parse(b"\n" + sample, len(names), delimiter, None)
    return [
        inferred(name, column.type, column.null_count > 0)
        for name, column in zip(names, table.columns)  # noqa: B905
    ]


def ragged_share(records: bytes, width: int, delimiter: str) -> float:
    """The part of the rows that are ragged; 1 of nothing."""
    if not records:
        return 1.0
    table, ragged = parse(b"\n" + records, width, delimiter, [pa.binary()] * width)
    return len(ragged) / max(1, int(table.num_rows) + len(ragged))


def fields_of(record: bytes, delimiter: str) -> list[bytes]:
    """The fields of one record, by the parser's rule for quotes; its line end is left out."""
    record = record.strip(b"\r\n")
    fields, at = [], 0
    while True:
        text, at = _field_at(record, at, delimiter.encode())
        fields.append(text)
        if at >= len(record):
            return fields
        at += 1


def _field_at(record: bytes, at: int, delimiter: bytes) -> tuple[bytes, int]:
    """A field that begins at `at`, without its quotes, and the index of the delimiter behind it (or the end)."""
    text = b""
    if record[at : at + 1] == b'"':
        at += 1
        while (close := record.find(b'"', at)) >= 0:
            doubled = record[close + 1 : close + 2] == b'"'
            text += record[at : close + doubled]
            at = close + 1 + doubled
            if not doubled:
                break
        else:
            return text + record[at:], len(record)
    end = record.find(delimiter, at)
    end = len(record) if end < 0 else end
    return text + record[at:end], end
