"""The .csv file of a job, whose header stands once and first; most bodies go into it as they are.

storage: CsvWriter ─▶ one header; a body whose columns are the joined ones as it is, others read and written anew

What is no bool, int or float is a quoted string in the file, so only those three and null can need other bytes in a
joined column. Arrow, which takes a while to load, is needed for those others alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.rows.columns import columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from batchmesh.rows.columns import Column
    from batchmesh.segment import Buffer

#: Kinds that stand in the file without quotes.
BARE = ("null", "bool", "int", "float")
#: Ends the schema of a single column that holds null: its lines are empty where it does. (JSON ignores a space.)
EMPTY_LINES = b" "


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
            fits = fits and not (len(self._columns) == 1 and schema.endswith(EMPTY_LINES))
            if len(self._fits) < 1000:
                self._fits[schema] = fits
        return fits

    def write(self, schema: bytes, bodies: Sequence[Buffer]) -> None:
        """Adds bodies, written anew where they do not fit."""
        if self.moves(schema):
            self._out.write(bodies[0] if len(bodies) == 1 else b"".join(bodies))
            return
        from batchmesh.rows.csv import anew

        self._out.writelines(anew(schema, bodies, self._columns))

    def close(self) -> None:
        """Nothing is kept back."""


def _same_bytes(own: Column, joined: Column) -> bool:
    # An int is written the same in a column of floats (pyarrow writes 1.0 as 1); null is nothing in any column.
    return own.kind not in ("bool", "int", "float") or joined.kind in BARE


def _quoted(name: str) -> str:
    if any(mark in name for mark in ',"\r\n') or name != name.strip() or not name:
        return '"' + name.replace('"', '""') + '"'
    return name
