"""One line of failed_items.jsonl: what failed, how much of it, and why.

Workers write the lines of rows they could not read and of short returns; the scheduler those of mini-batches that
failed whole. Standard library only: workers import this in the user's environment.
"""

from __future__ import annotations

import json
from typing import Any

#: run() returned fewer results than it got items; which items are missing nobody knows.
SHORT_RETURN = "SHORT_RETURN"
#: A row that no reader could make sense of; run() never saw it.
UNREADABLE_ROW = "UNREADABLE_ROW"


def failed_line(
    *,
    item: Any,
    slice_fields: dict[str, Any] | None,
    count: int,
    kind: str,
    error: str,
    traceback: str = "",
    tries: int,
) -> bytes:
    """One JSON object, ended by a newline.

    `item` is a path, or file, line, row and column of a row, or None where only the slice is known. `count` is the
    number of items that the line stands for, `tries` how often run() was tried on them (0 if never).
    """
    fields = {
        "item": item,
        "slice": slice_fields,
        "count": count,
        "kind": kind,
        "error": error,
        "traceback": traceback,
        "tries": tries,
    }
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"
