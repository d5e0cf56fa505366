"""The worker's way in: from a slice's fields to the items that run() gets.

Runs in the user's environment: a table's libraries are imported only when a slice of a table comes.
"""

from __future__ import annotations

import importlib

from batchmesh.data.slices import Batch, SliceFields, UnreadableSlice

_MODULES = {"files": "files", "csv": "csv", "parquet": "parquet", "jsonl": "jsonl"}


def read_slice(fields: SliceFields) -> Batch:
    """Errors: UnreadableSlice, one sentence, if nothing of it can be read; ImportError without pandas or pyarrow."""
    name = _MODULES.get(fields["kind"])
    if name is None:
        raise UnreadableSlice(f"a slice of kind {fields['kind']!r} cannot be read by this version")
    batch: Batch = importlib.import_module("batchmesh.data." + name).read(fields)
    return batch
