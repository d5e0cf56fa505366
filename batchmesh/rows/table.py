"""From what run() returned to an Arrow table whose columns do not depend on how the values happened to be held.

It runs in the user's environment: CPython 3.9 and later, and pyarrow of the version there.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from batchmesh.rows.columns import RESULT, join_all, kind_of, text_of, unique
from batchmesh.rows.results import is_array, is_dataframe, is_series, result_length

#: What pyarrow raises for values that are not all of one type it knows.
_NOT_ARROW = (pa.ArrowException, TypeError, ValueError, OverflowError, NotImplementedError)


def table_of(result: Any) -> tuple[pa.Table, list[str]]:
    """The rows of a result, and the names of columns that became string because their values do not join.

    A DataFrame gives its columns (its index is not written), dicts their keys, anything else one column `result`.
    NaN is null. Raises TypeError where result_length does.
    """
    rows = result_length(result)
    if is_dataframe(result):
        columns = [result.iloc[:, position] for position in range(result.shape[1])]
        return _table(unique(result.columns), columns) if columns else _nothing(rows)
    if is_series(result) or (is_array(result) and result.ndim == 1):
        if result.dtype != object:
            return _table([RESULT] if rows else [], [result] if rows else [])
        result = list(result)
    if any(isinstance(element, dict) for element in result):
        return _table_of_dicts(result)
    return _table([RESULT] if rows else [], [list(result)] if rows else [])


def _table_of_dicts(elements: Any) -> tuple[pa.Table, list[str]]:
    columns: dict[Any, list[Any]] = {}
    count = len(elements)
    for row, element in enumerate(elements):
        for key, value in (element if isinstance(element, dict) else {RESULT: element}).items():
            column = columns.get(key)
            if column is None:
                column = columns[key] = [None] * count
            column[row] = value
    return _table(unique(columns), list(columns.values())) if columns else _nothing(count)


def _nothing(rows: int) -> tuple[pa.Table, list[str]]:
    """Rows without any column (empty dicts) are rows all the same."""
    return _table([RESULT] if rows else [], [[None] * rows] if rows else [])


def _table(names: list[str], columns: list[Any]) -> tuple[pa.Table, list[str]]:
    arrays, mixed = [], []
    for name, column in zip(names, columns):  # noqa: B905 CPython 3.9
        array, is_mixed = _array(column)
        arrays.append(array)
        if is_mixed:
            mixed.append(name)
    return pa.Table.from_arrays(arrays, names=names), mixed


def _array(values: Any) -> tuple[pa.Array, bool]:
    """The values as an Arrow array of a plain type, and whether they had to become strings for not joining."""
    if isinstance(values, list) or values.dtype == object:
        values = [_ordered(value) for value in values]
        if len({kind for kind in map(type, values) if kind is not type(None)}) > 1:
            kind, mixed = join_all(set(map(kind_of, values)))
            if mixed or kind == "string":
                return _strings(values), mixed
    try:
        array = pa.array(values, from_pandas=True)
    except _NOT_ARROW:
        return _strings(values), False
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array.type, pa.BaseExtensionType):
        return _strings(values), False
    return array.cast(plain_type(array.type)), False


#: Types whose values may hold further values, sets above all.
_HOLDERS = (dict, list, tuple, set, frozenset)


def _ordered(value: Any) -> Any:
    """The value with its sets as sorted lists: Arrow takes them in their own order, another one in each process."""
    if not isinstance(value, _HOLDERS):
        return value
    if isinstance(value, (set, frozenset)):
        return sorted(map(_ordered, value), key=repr)
    if isinstance(value, dict):
        return {key: _ordered(each) for key, each in value.items()}
    if any(isinstance(each, _HOLDERS) for each in value):
        return [_ordered(each) for each in value]
    return value


def _strings(values: Any) -> pa.Array:
    return pa.array([text_of(value) for value in values], pa.string())


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without what depends on how the values were held: dictionaries, large offsets, half floats."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or str(kind) == "string_view":
        return pa.string()
    if pa.types.is_large_binary(kind) or str(kind) == "binary_view":
        return pa.binary()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_large_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def kind_of_type(kind: pa.DataType) -> str:
    """The kind, as batchmesh.rows.columns has it, of an Arrow type."""
    return next((name for test, name in _KINDS if test(kind)), "nested")


_KINDS = [
    (pa.types.is_null, "null"),
    (pa.types.is_boolean, "bool"),
    (pa.types.is_integer, "int"),
    (pa.types.is_floating, "float"),
    (pa.types.is_string, "string"),
    (pa.types.is_timestamp, "timestamp"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
    (pa.types.is_duration, "duration"),
    (pa.types.is_decimal, "decimal"),
    (pa.types.is_binary, "bytes"),
    (pa.types.is_fixed_size_binary, "bytes"),
]
_CASTS = ("bool", "int", "float", "timestamp", "date", "time", "decimal")


def as_strings(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The column as strings; null stays null."""
    kind = kind_of_type(array.type)
    if kind == "string":
        return array
    if kind in _CASTS and not (kind == "timestamp" and array.type.tz):
        return array.cast(pa.string())
    return _strings(array.to_pylist())
