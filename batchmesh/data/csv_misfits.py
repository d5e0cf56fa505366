"""Tells the rows of a CSV slice that cannot be read from those that can.

parse under the fixed types ──fits──▶ table (nearly always)
      └──does not──▶ parse as bytes ──▶ which values misfit ──▶ parse again without their rows
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchmesh.data.columns import Column, arrow_type
from batchmesh.data.csv_parser import BOOL_VALUES, EMPTY_VALUES, Ragged, parse
from batchmesh.data.records import CsvScanner
from batchmesh.data.text import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EMPTY = pa.array([value.encode() for value in EMPTY_VALUES], pa.binary())
_BOOLS = pa.array([value.encode() for value in BOOL_VALUES], pa.binary())
_SHOWN = 60


class BadRow(NamedTuple):
    """`row` counts the slice's rows from 0, bad ones included; `column` is None where the whole row is wrong."""

    row: int
    column: str | None
    error: str


def separate(data: bytearray, columns: Sequence[Column], delimiter: str) -> tuple[pa.Table, list[BadRow]]:
    """The good rows under the columns' types, in order, and the bad ones, in order."""
    types = [arrow_type(column.type) for column in columns]
    try:
        table, ragged = parse(data, len(columns), delimiter, types)
    except pa.ArrowInvalid:
        return _without_misfits(data, columns, delimiter)
    if any(found.null_count and not column.takes_empty for column, found in zip(columns, table.columns)):  # noqa: B905
        return _without_misfits(data, columns, delimiter)
    return table, [_ragged(row, len(columns)) for row in ragged]


def _without_misfits(data: bytearray, columns: Sequence[Column], delimiter: str) -> tuple[pa.Table, list[BadRow]]:
    raw, ragged = parse(data, len(columns), delimiter, [pa.binary()] * len(columns))
    bad = {row.row: _ragged(row, len(columns)) for row in ragged}
    index_of = np.delete(np.arange(raw.num_rows + len(ragged)), sorted(bad))
    for column, values in zip(columns, raw.columns):  # noqa: B905
        for at, error in _misfits(values.combine_chunks(), column):
            index = int(index_of[at])
            bad.setdefault(index, BadRow(index, column.name, error))
    types = [arrow_type(column.type) for column in columns]
    table = _parse_without(data, set(bad), len(columns), delimiter, types)
    return table, sorted(bad.values())


def _parse_without(data: bytearray, bad: set[int], width: int, delimiter: str, types: list[pa.DataType]) -> pa.Table:
    records = Records(data, CsvScanner(delimiter))
    good, start = bytearray(b"\n"), 0
    for index in sorted(bad):
        begin, end = records.bounds(index)
        good += data[start:begin]
        start = end
    good += data[start:]
    return parse(good, width, delimiter, types)[0]


def _ragged(row: Ragged, width: int) -> BadRow:
    return BadRow(row.row, None, f"the row has {_count(row.fields, 'field')}, the file {_count(width, 'column')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _misfits(values: pa.Array, column: Column) -> list[tuple[int, str]]:
    """Which of the column's raw values cannot be read under its type, and the sentence for each."""
    if column.type == "string":
        return [(at, f"{_shown(values[at])} is not UTF-8") for at in _failing(values, _is_text)]
    is_empty = pc.is_in(values, _EMPTY)
    given = np.flatnonzero(~is_empty.to_numpy(zero_copy_only=False))
    kind, remedy = arrow_type(column.type), f"--csv-types {column.name}="
    misfits = [
        (int(given[at]), f"{_shown(values[int(given[at])])} is not {column.type}; {remedy}string takes any value")
        for at in _failing(values.take(pa.array(given)), lambda part: _converts(part, kind))
    ]
    if not column.takes_empty:
        other = "optional_bool" if column.type == "bool" else "float64"
        sentence = f"an empty value in a column of {column.type}; {remedy}{other} takes empty values"
        misfits += [(int(at), sentence) for at in np.flatnonzero(is_empty.to_numpy(zero_copy_only=False))]
    return misfits


def _failing(values: pa.Array, fits: Callable[[pa.Array], bool]) -> list[int]:
    """The single values that do not fit, found by halving."""
    failing, open_parts = [], [(0, len(values))]
    while open_parts:
        start, count = open_parts.pop()
        if count == 0 or fits(values.slice(start, count)):
            continue
        if count == 1:
            failing.append(start)
        else:
            half = count // 2
            open_parts += [(start + half, count - half), (start, half)]
    return failing


def _is_text(values: pa.Array) -> bool:
    return _casts(values, pa.string())


def _converts(values: pa.Array, kind: pa.DataType) -> bool:
    """Whether pyarrow's CSV converter takes them all: its casts read the same once white space is off."""
    if pa.types.is_boolean(kind):
        return bool(pc.all(pc.is_in(values, _BOOLS)).as_py())
    if not _casts(values, pa.string()):
        return False
    return _casts(pc.ascii_trim(values.cast(pa.string()), " \t"), kind)


def _casts(values: pa.Array, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _shown(value: pa.Scalar) -> str:
    raw: bytes = value.as_py()
    try:
        shown = repr(raw.decode())
    except UnicodeDecodeError:
        shown = repr(raw)[1:]
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
