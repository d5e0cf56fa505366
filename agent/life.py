"""The node id of an agent, recorded in its work folder while it lives: the next one there tells whom it replaces."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def begin(work: Path, node_id: str) -> str:
    """Records this life. Returns the node id of the one before if that did not end in good order, else ""."""
    record, before = work / "node", ""
    with contextlib.suppress(OSError):
        before = record.read_text()
    with contextlib.suppress(OSError):  # then the next life's scheduler waits for a lease
        record.write_text(node_id)
    return before


def end(work: Path) -> None:
    """The scheduler has been told that the node leaves."""
    with contextlib.suppress(OSError):
        (work / "node").unlink()
