"""The columns of a table made of many frames: how their kinds join, and what a value is as text or JSON.

It runs in the user's environment: standard library only, CPython 3.9 and later.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import numbers
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: The column of what is neither a DataFrame nor a dict.
RESULT = "result"


class Column(NamedTuple):
    """A column as text formats know it. Kinds: null, bool, int, float, string, timestamp, date, time, decimal, …"""

    name: str
    kind: str
    #: It became string because kinds that do not join met in it.
    mixed: bool


class Columns:
    """The union of the frames' columns, in order of first appearance."""

    def __init__(self) -> None:
        self._of: dict[str, Column] = {}

    def learn(self, columns: Iterable[Column]) -> bool:
        """Takes a frame's columns in; returns whether a name or a kind changed by it."""
        changed = False
        for new in columns:
            old = self._of.get(new.name)
            kind, mismatch = join_kinds(old.kind, new.kind) if old else (new.kind, False)
            joined = Column(new.name, kind, mismatch or new.mixed or bool(old and old.mixed))
            changed = changed or old is None or old.kind != kind
            self._of[new.name] = joined
        return changed

    def all(self) -> list[Column]:
        """The joined columns."""
        return list(self._of.values())

    def names(self) -> list[str]:
        """Their names."""
        return list(self._of)

    def mixed(self) -> list[str]:
        """Names of those that became string because of a mismatch."""
        return [column.name for column in self._of.values() if column.mixed]


def join_kinds(one: str, other: str) -> tuple[str, bool]:
    """The kind that holds both, and whether that is string for want of a better one.

    Null joins anything, int and float are float, any other mismatch is string.
    """
    if other in (one, "null"):
        return one, False
    if one == "null":
        return other, False
    if {one, other} == {"int", "float"}:
        return "float", False
    return "string", True


def join_all(kinds: Iterable[str]) -> tuple[str, bool]:
    """join_kinds over many."""
    joined, mixed = "null", False
    for kind in kinds:
        joined, mismatch = join_kinds(joined, kind)
        mixed = mixed or mismatch
    return joined, mixed


def schema_bytes(columns: Iterable[Column]) -> bytes:
    """The schema of a frame of a text format; equal columns give equal bytes."""
    return json.dumps([list(column) for column in columns], separators=(",", ":")).encode()


def columns_of(schema: bytes) -> list[Column]:
    """What schema_bytes was given."""
    return [Column(*each) for each in json.loads(schema)] if schema else []


def unique(names: Iterable[Any]) -> list[str]:
    """Column labels as text; a second `a` becomes `a.1`, as pandas reads such a header."""
    taken: set[str] = set()
    chosen = []
    for label in names:
        name = base = clean(str(label))
        number = 0
        while name in taken:
            number += 1
            name = f"{base}.{number}"
        taken.add(name)
        chosen.append(name)
    return chosen


#: Kinds of the types met so far.
_KINDS: dict[type, str] = {}


def kind_of(value: Any) -> str:
    """The kind of one value. NaN, NaT and pandas' NA are null; a type that is not known is the string it prints as."""
    kind = _KINDS.get(type(value))
    if kind is None:
        kind = _KINDS[type(value)] = _kind_of_type(type(value))
    return "null" if kind == "float" and math.isnan(value) else kind


def _kind_of_type(kind: type) -> str:
    name = kind.__name__
    if name in ("NoneType", "NAType", "NaTType"):
        return "null"
    if name in ("bool_", "bool"):
        return "bool"
    for base, answer in _BASES:
        if issubclass(kind, base):
            return answer
    return {"ndarray": "nested", "Series": "nested", "datetime64": "timestamp", "Decimal": "decimal"}.get(
        name, "string"
    )


_BASES: list[tuple[type, str]] = [
    (numbers.Integral, "int"),
    (numbers.Real, "float"),
    (str, "string"),
    (bytes, "bytes"),
    (bytearray, "bytes"),
    (dt.datetime, "timestamp"),
    (dt.date, "date"),
    (dt.time, "time"),
    (dict, "nested"),
    (list, "nested"),
    (tuple, "nested"),
    (set, "nested"),
    (frozenset, "nested"),
]


def plain(value: Any) -> Any:
    """The value as JSON has it. NaN and infinities are null, as JSON knows neither; bytes are UTF-8, others escaped."""
    convert = _TO_PLAIN.get(kind_of(value))
    return convert(value) if convert else clean(str(value))


def _plain_nested(value: Any) -> Any:
    if isinstance(value, dict):
        return {clean(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)  # a set has no order of its own, and the output is to be the same each time
    elif hasattr(value, "tolist"):
        value = value.tolist()
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else plain(value)


_TO_PLAIN: dict[str, Callable[[Any], Any]] = {
    "null": lambda value: None,  # noqa: ARG005 whichever null it is
    "bool": bool,
    "int": int,
    "float": lambda value: float(value) if math.isfinite(value) else None,
    "bytes": lambda value: bytes(value).decode("utf-8", "backslashreplace"),
    "nested": _plain_nested,
}


def text_of(value: Any) -> str | None:
    """The value in a column of strings: as JSON has it, a string bare; None for null."""
    value = plain(value)
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def clean(text: str) -> str:
    """The text with lone surrogates (undecodable bytes of a file name, for instance) escaped, as UTF-8 has none."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
