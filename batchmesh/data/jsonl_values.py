"""The values of JSON lines: pyarrow's parser where it reads exactly what Python's would, else Python's.

pyarrow's goes over several objects in a line, and over one in several lines; so it gets only lines that each begin with
a brace and end with one, which excludes the latter, and its rows are counted, which shows the former.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.json

from batchmesh.data.columns import Column, arrow_type
from batchmesh.data.records import LineScanner
from batchmesh.data.text import Records

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_LARGEST_BLOCK = 1024 * 1024 * 1024
_EXACT_IN_FLOAT = 2**53
_BLANK = b" \t\r\n"


class BadRow(NamedTuple):
    """`row` counts the slice's rows from 0, bad ones included; `column` is None where the line is no object."""

    row: int
    column: str | None
    error: str


def infer(sample: bytes) -> list[Column]:
    """The columns in order of first appearance; bad lines tell nothing."""
    data = bytearray(b"\n" + sample)
    records = Records(data, LineScanner())
    table = _parse(data, records, None)
    if table is not None and not any(_is_doubtful(column) for column in table.columns):
        return [_column_of(name, values) for name, values in zip(table.column_names, table.columns)]  # noqa: B905
    return _infer_each(data, records)


def parse_plain(data: bytearray, records: Records, columns: Sequence[Column]) -> pa.Table | None:
    """The rows if all are good, hold no other columns, and pyarrow reads them as Python would."""
    if not columns or any(column.type == "object" or column.type.startswith("timestamp") for column in columns):
        return None
    schema = pa.schema([(column.name, arrow_type(column.type)) for column in columns])
    table = _parse(data, records, schema)
    if table is None or any(
        values.null_count and not column.takes_empty
        for column, values in zip(columns, table.columns)  # noqa: B905
    ):
        return None
    return table


def parse_each(data: bytearray, records: Records, columns: Sequence[Column]) -> tuple[pd.DataFrame, list[BadRow]]:
    """The good rows as a DataFrame, and the bad ones, one line at a time."""
    good: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    for row in range(len(records)):
        found = _object_in(data, records, row)
        misfit = None if isinstance(found, BadRow) else _misfit(found, row, columns)
        if isinstance(found, BadRow):
            bad.append(found)
        elif misfit is not None:
            bad.append(misfit)
        else:
            good.append(found)
    return _frame(good, columns), bad


def _parse(data: bytearray, records: Records, schema: pa.Schema | None) -> pa.Table | None:
    if not len(records) or not _one_object_a_line(data, records):
        return None
    try:
        data.decode()
        table = pa.json.read_json(
            pa.BufferReader(data),
            pa.json.ReadOptions(use_threads=False, block_size=min(len(data) + 1, _LARGEST_BLOCK)),
            pa.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "error"
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    return table if table.num_rows == len(records) else None


def _one_object_a_line(data: bytearray, records: Records) -> bool:
    """Whether each line is exactly `{…}`, without white space around it or empty lines between."""
    block = np.frombuffer(data, np.uint8)
    starts, ends = records.starts_and_ends()
    starts[0] = 1  # behind the LF of our own
    lasts = ends - 1
    lasts[block[lasts] == ord("\n")] -= 1
    lasts[block[lasts] == ord("\r")] -= 1
    return bool((block[starts] == ord("{")).all() and (block[lasts] == ord("}")).all())


def _is_doubtful(values: pa.ChunkedArray) -> bool:
    """Whether a column of floats may hold integers too large for them."""
    if not pa.types.is_floating(values.type):
        return False
    return bool(np.fmax.reduce(np.abs(values.to_numpy()), initial=0) >= _EXACT_IN_FLOAT)


def _column_of(name: str, values: pa.ChunkedArray) -> Column:
    kind, has_empty = values.type, values.null_count > 0
    if pa.types.is_integer(kind):
        return Column(name, "float64" if has_empty else "int64")
    if pa.types.is_floating(kind):
        return Column(name, "float64")
    if pa.types.is_boolean(kind):
        return Column(name, "optional_bool" if has_empty else "bool")
    return Column(name, "object" if pa.types.is_nested(kind) else "string")


def _infer_each(data: bytearray, records: Records) -> list[Column]:
    seen: dict[str, set[str]] = {}
    present: dict[str, int] = {}
    rows = 0
    for row in range(len(records)):
        found = _object_in(data, records, row)
        if isinstance(found, BadRow):
            continue
        rows += 1
        for name, value in found.items():
            kinds = seen.setdefault(name, set())
            if value is not None:
                kinds.add(_kind_of(value))
                present[name] = present.get(name, 0) + 1
    return [Column(name, _type_of(kinds, present.get(name, 0) < rows)) for name, kinds in seen.items()]


def _kind_of(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return "int64" if -(2**63) <= value < 2**63 else "object"
    return {bool: "bool", float: "float64", str: "string"}.get(type(value), "object")


def _type_of(kinds: set[str], has_empty: bool) -> str:
    if not kinds:
        return "string"
    if kinds == {"int64"}:
        return "float64" if has_empty else "int64"
    if kinds == {"bool"}:
        return "optional_bool" if has_empty else "bool"
    if kinds <= {"int64", "float64"}:
        return "float64"
    return "string" if kinds == {"string"} else "object"


def _object_in(data: bytearray, records: Records, row: int) -> dict[str, Any] | BadRow:
    start, end = records.bounds(row)
    try:
        found = json.loads(data[start:end].strip(_BLANK).decode())
    except UnicodeDecodeError:
        return BadRow(row, None, "the line is not UTF-8")
    except json.JSONDecodeError as error:
        return BadRow(row, None, f"the line is not JSON: {error.msg} at character {error.colno}")
    except (RecursionError, ValueError) as error:
        return BadRow(row, None, f"the line is not JSON: {error}")
    if not isinstance(found, dict):
        return BadRow(row, None, "the line holds no JSON object")
    return found


def _misfit(values: dict[str, Any], row: int, columns: Sequence[Column]) -> BadRow | None:
    for column in columns:
        value = values.get(column.name)
        if value is None and not column.takes_empty:
            other = "optional_bool" if column.type == "bool" else "float64"
            sentence = f"no value in a column of {column.type}; --csv-types {column.name}={other} takes empty values"
            return BadRow(row, column.name, sentence)
        if value is not None and not _fits(value, column.type):
            shown = json.dumps(value)[:60]
            sentence = f"{shown} is not {column.type}; --csv-types {column.name}=object takes any value"
            return BadRow(row, column.name, sentence)
    return None


def _fits(value: Any, type_name: str) -> bool:
    if type_name == "object":
        return True
    expected: Any = str
    if type_name in ("bool", "optional_bool"):
        expected = bool
    elif type_name.startswith("float"):
        expected = (int, float)
    elif type_name.startswith(("int", "uint")):
        expected = int
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        return False
    try:
        _array([value], type_name)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return False
    return True


def _array(values: list[Any], type_name: str) -> pa.Array:
    if type_name.startswith("timestamp"):
        return pa.array(values, pa.string()).cast(arrow_type(type_name))
    if type_name.startswith("float"):
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, arrow_type(type_name))


def _frame(rows: list[dict[str, Any]], columns: Sequence[Column]) -> pd.DataFrame:
    import pandas as pd  # who splits has no use for it

    series: dict[str, Any] = {}
    for column in columns:
        values = [row.get(column.name) for row in rows]
        if column.type in ("object", "optional_bool"):
            series[column.name] = pd.Series(values, dtype=object)
        else:
            series[column.name] = _array(values, column.type).to_pandas()
    known = set(series)
    for name in dict.fromkeys(name for row in rows for name in row if name not in known):
        series[name] = pd.Series([row.get(name) for row in rows], dtype=object)
    return pd.DataFrame(series, index=pd.RangeIndex(len(rows)))
