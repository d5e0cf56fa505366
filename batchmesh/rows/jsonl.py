""".jsonl: one JSON object a line, each with all columns of the output.

worker:  result ──JsonLinesRenderer──▶ body of whole lines, schema = names and kinds
storage: JsonLinesWriter ─▶ a body whose columns are the joined ones as it is, others read and written anew
"""

from __future__ import annotations

import io
import json
from itertools import chain
from typing import TYPE_CHECKING, Any

from batchmesh.rows.columns import RESULT, Column, columns_of, join_all, kind_of, plain, schema_bytes, unique
from batchmesh.rows.columns import text_of as text
from batchmesh.rows.results import Rendered, is_dataframe, result_length

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from batchmesh.segment import Buffer

#: JSON of one row.
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": ")).encode


class JsonLinesRenderer:
    """The worker's side; it needs no library."""

    def render(self, result: Any) -> Rendered:
        """Lines; NaN and infinities are null, as JSON has neither."""
        rows = result_length(result)
        values = _dataframe_columns(result) if is_dataframe(result) else _element_columns(result, rows)
        if rows and not values:
            values = {RESULT: [None] * rows}  # rows without any column (empty dicts) are rows all the same
        columns = []
        for name, column in values.items():
            kind, mixed = join_all(set(map(kind_of, column)))
            columns.append(Column(name, kind, mixed))
            values[name] = list(map(_as(kind), column))
        return Rendered(schema_bytes(columns), _lines(values), rows)


def _dataframe_columns(frame: Any) -> dict[str, list[Any]]:
    return {name: frame.iloc[:, at].tolist() for at, name in enumerate(unique(frame.columns))}


def _element_columns(result: Any, rows: int) -> dict[str, list[Any]]:
    columns: dict[Any, list[Any]] = {}
    for row, element in enumerate(result):
        for key, value in (element if isinstance(element, dict) else {RESULT: element}).items():
            column = columns.get(key)
            if column is None:
                column = columns[key] = [None] * rows
            column[row] = value
    return dict(zip(unique(columns), columns.values()))  # noqa: B905 CPython 3.9


def _as(kind: str) -> Any:
    """The conversion of a column's values to JSON: to text where kinds do not join, to float where some are."""
    if kind == "string":
        return text
    if kind == "float":
        return _float
    return plain


def _float(value: Any) -> Any:
    value = plain(value)
    return None if value is None else float(value)


def _lines(columns: dict[str, list[Any]]) -> bytes:
    names = list(columns)
    lines = [_dumps(dict(zip(names, row))) for row in zip(*columns.values())]  # noqa: B905 CPython 3.9
    return "".join(f"{line}\n" for line in lines).encode()


class JsonLinesWriter:
    """Writes bodies with all columns of the output."""

    def __init__(self, out: BinaryIO, columns: list[Column]) -> None:
        self._out = out
        self._columns = columns
        self._fits: dict[bytes, bool] = {}

    def moves(self, schema: bytes) -> bool:
        """Whether the body goes as it is: same names in the same order, and no kind whose bytes differ."""
        fits = self._fits.get(schema)
        if fits is None:
            own = columns_of(schema)
            fits = [column.name for column in own] == [column.name for column in self._columns]
            fits = fits and all(map(_same_bytes, own, self._columns))
            if len(self._fits) < 1000:
                self._fits[schema] = fits
        return fits

    def write(self, schema: bytes, bodies: Sequence[Buffer]) -> None:
        """Adds bodies, written anew where they do not fit, a line at a time."""
        if self.moves(schema):
            self._out.write(bodies[0] if len(bodies) == 1 else b"".join(bodies))
            return
        converts = [(column.name, _as(column.kind)) for column in self._columns]
        for line in chain.from_iterable(map(_split, bodies)):
            row = json.loads(line)
            joined = {name: convert(row.get(name)) for name, convert in converts}
            self._out.write(f"{_dumps(joined)}\n".encode())

    def close(self) -> None:
        """Nothing is kept back."""


def _same_bytes(own: Column, joined: Column) -> bool:
    # Whatever is a JSON string already stays one; null is null in any column.
    return own.kind == joined.kind or own.kind not in ("bool", "int", "float", "nested", "decimal")


def _split(body: Buffer) -> Any:
    """The lines of a body, without a copy of all of it."""
    return iter(io.BytesIO(body).readline, b"")
