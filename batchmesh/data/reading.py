"""The worker's way in: from a slice's fields to the items that run() gets.

Runs in the user's environment: a table's libraries are imported only when a slice of a table comes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from batchmesh.data.slices import Batch, SliceFields, UnreadableSlice, shown

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULES = {"files": "files", "csv": "csv", "parquet": "parquet", "jsonl": "jsonl"}
#: Their `read`, once imported.
_readers: dict[str, Callable[[SliceFields], Batch]] = {}


def read_slice(fields: SliceFields) -> Batch:
    """Errors: UnreadableSlice, one sentence, if nothing of it can be read; ImportError without pandas or pyarrow."""
    kind = fields["kind"]
    batch = (_readers.get(kind) or _reader(kind))(fields)
    if kind != "files":
        return _table(fields, batch)
    return Batch(batch.items, lone=shown(batch.items[0])) if len(batch.items) == 1 else batch


def _reader(kind: str) -> Callable[[SliceFields], Batch]:
    if kind not in _MODULES:
        raise UnreadableSlice(f"a slice of kind {kind!r} cannot be read by this version")
    reader: Callable[[SliceFields], Batch] = importlib.import_module("batchmesh.data." + _MODULES[kind]).read
    _readers[kind] = reader
    return reader


def _table(fields: SliceFields, whole: Batch) -> Batch:
    """What was asked for of the slice, and the name of its row if that is one."""
    first, batch = 0, whole
    if "part" in fields:
        first, items = fields["part"]
        batch = _part(whole, first, first + items)
    if len(batch.items) != 1:
        return batch
    return Batch(batch.items, batch.failures, f"row {_row_number(fields, whole, first)} of {shown(fields['file'])}")


def _part(whole: Batch, start: int, end: int) -> Batch:
    """The rows that can be read count first, in their order, then those that cannot."""
    readable = len(whole.items)
    rows = whole.items.iloc[start:end].reset_index(drop=True)
    return Batch(rows, whole.failures[max(start - readable, 0) : max(end - readable, 0)])


def _row_number(fields: SliceFields, whole: Batch, index: int) -> int:
    """In the file, from 1, of the slice's readable row `index`."""
    row: int = fields["row"] + index
    for unreadable in sorted(failure.row for failure in whole.failures):
        row += unreadable <= row
    return row
