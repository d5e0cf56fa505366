"""The columns of a text table: their names and their types, fixed for all slices of a file.

string         text; an empty value is "" in CSV and None in JSON lines
int64 …        int8 to int64, uint8 to uint64; no value may be empty
float64        float32 too; an empty value is NaN
bool           no value may be empty
optional_bool  True, False or None, dtype object
timestamp      datetime64 of microseconds; timestamp[s], [ms], [us], [ns], each also with ", UTC", name another unit
object         JSON lines only: whatever the JSON says, nested or mixed
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

_NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
_TIMESTAMP = re.compile(r"timestamp(?:\[(s|ms|us|ns)(, ?UTC)?\])?")
_PLAIN = ("string", *_NUMBERS, "bool", "optional_bool", "timestamp")


class Column(NamedTuple):
    name: str
    type: str

    @property
    def takes_empty(self) -> bool:
        """Whether an empty value is a value: integers and plain bools have none in pandas."""
        return self.type != "bool" and not self.type.startswith(("int", "uint"))


def check_types(types: Mapping[str, str], kind: str) -> None:
    """Errors: ValueError, one sentence, for a type that there is not, or types for a kind that has its own."""
    if types and kind not in ("csv", "jsonl"):
        raise ValueError(f"csv_types are for CSV and JSON lines, but the input is {kind}: leave them out")
    names = (*_PLAIN, "object") if kind == "jsonl" else _PLAIN
    for column, type_name in types.items():
        if type_name not in names and not _TIMESTAMP.fullmatch(type_name):
            raise ValueError(
                f"csv_types: column {column!r} has the unknown type {type_name!r}; give one of {', '.join(names)}"
            )


def with_given(columns: Sequence[Column], given: Mapping[str, str]) -> list[Column]:
    return [Column(column.name, given.get(column.name, column.type)) for column in columns]


def arrow_type(name: str) -> pa.DataType:
    import pyarrow as pa

    stamp = _TIMESTAMP.fullmatch(name)
    if stamp:
        return pa.timestamp(stamp[1] or "us", "UTC" if stamp[2] else None)
    return pa.type_for_alias("bool" if name == "optional_bool" else name)


def inferred(name: str, found: pa.DataType, has_empty: bool) -> Column:
    """The type fixed for a column in whose sample pyarrow found this one."""
    import pyarrow as pa

    if pa.types.is_integer(found):
        return Column(name, "float64" if has_empty else "int64")
    if pa.types.is_boolean(found):
        return Column(name, "optional_bool" if has_empty else "bool")
    if pa.types.is_floating(found):
        return Column(name, "float64")
    if pa.types.is_date(found):
        return Column(name, "timestamp")
    if pa.types.is_timestamp(found):
        unit = "ns" if found.unit == "ns" else "us"
        return Column(name, f"timestamp[{unit}, UTC]" if found.tz else f"timestamp[{unit}]")
    return Column(name, "string")


def distinct(names: Sequence[str]) -> list[str]:
    """As pandas names them: `a, a, ""` become `a, a.1, Column3`."""
    taken: set[str] = set()
    result = []
    for index, name in enumerate(names):
        name = name or f"Column{index + 1}"  # noqa: PLW2901
        unique, count = name, 0
        while unique in taken:
            count += 1
            unique = f"{name}.{count}"
        taken.add(unique)
        result.append(unique)
    return result
