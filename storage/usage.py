"""How much of the disk each job takes."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .places import Places

#: Jobs that are looked at before the next ones are asked for.
_PAGE = 100


def usage(places: Places) -> Iterator[list[tuple[str, int]]]:
    """(id, bytes) of all jobs, in the order of their ids, some at a time. Blocks."""
    names = sorted(os.listdir(places.jobs))
    for begin in range(0, len(names), _PAGE):
        yield [(name, bytes_of(places.jobs / name)) for name in names[begin : begin + _PAGE]]


def bytes_of(folder: Path) -> int:
    """Bytes that the files in a folder and below it take on the disk. What goes meanwhile does not count."""
    found = 0
    for above, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found += os.lstat(os.path.join(above, name)).st_blocks * 512
    return found
