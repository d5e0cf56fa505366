"""The nouns of an input: how large a mini-batch is, a slice of it by reference, and what a reader gives back.

Standard library only: workers import this in the user's environment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

#: What a slice is on the wire and in the database: a JSON object whose "kind" names the module that reads it.
SliceFields = dict[str, Any]


@dataclass(frozen=True)
class RowFailure:
    """One row that could not be read. `line` counts from 1 in the file (None where the format has no lines)."""

    file: str
    line: int | None
    row: int
    column: str | None
    error: str


@dataclass(frozen=True)
class Batch:
    """What one `run()` gets: a list of local paths or a pandas DataFrame, and the rows left out because unreadable."""

    items: Any
    failures: list[RowFailure] = field(default_factory=list)


def encode_slice(fields: SliceFields) -> bytes:
    """The bytes that travel from the planner to the worker untouched; odd file names survive as escapes."""
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def decode_slice(payload: bytes) -> SliceFields:
    fields: SliceFields = json.loads(payload)
    return fields
