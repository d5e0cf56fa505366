"""What has changed in a folder since it was last looked at: which files are new or other ones, and which have gone."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Files that are remembered; of more, the oldest are taken for new ones again.
_REMEMBERED = 1_000_000
#: What was written within the last tick of a file system's clock (nanoseconds) may change once more and look the same.
_TICK_NS = 20_000_000


class Change(NamedTuple):
    """One file; `name` is relative to the folder."""

    name: str
    #: Tells one state of it from another one; None for a file that has gone.
    stamp: int | None


class Changes:
    """The files below one folder, as somebody else knows them. Blocks."""

    def __init__(self, folder: Path, remembered: int = _REMEMBERED) -> None:
        self._folder = folder
        self._remembered = remembered
        #: By name: its stamp when it was told, and the number of the last look that found it.
        self._told: dict[str, tuple[int, int]] = {}
        self._looks = 0

    def look(self) -> Iterator[Change]:
        """Each file that is not as it was when told(), then each that was told and has gone."""
        self._looks += 1
        for name, stamp in _files(os.fspath(self._folder)):
            known = self._told.get(name)
            if known is not None:
                self._told[name] = (known[0], self._looks)
            if known is None or known[0] != stamp or not stamp:
                yield Change(name, stamp)
        for name in [name for name, (_, found) in self._told.items() if found != self._looks]:
            yield Change(name, None)

    def told(self, change: Change) -> None:
        """Whoever asked knows of it now."""
        self._told.pop(change.name, None)
        if change.stamp is not None:
            self._told[change.name] = (change.stamp, self._looks)
        if len(self._told) > self._remembered:
            del self._told[next(iter(self._told))]


def _files(folder: str, inside: str = "") -> Iterator[tuple[str, int]]:
    """Name and stamp of all files below a folder. Links to files are files, links to folders are nothing.

    Scripts may write meanwhile: what comes or goes is seen now or the next time.
    """
    with suppress(FileNotFoundError), os.scandir(os.path.join(folder, inside)) as entries:
        for each in entries:
            if each.is_dir(follow_symlinks=False):
                yield from _files(folder, f"{inside}{each.name}/")
            elif each.is_file():
                with suppress(FileNotFoundError):
                    yield inside + each.name, _stamp(each.stat())


def _stamp(status: os.stat_result) -> int:
    """0 for a file that was written just now."""
    if abs(time.time_ns() - status.st_mtime_ns) < _TICK_NS:
        return 0
    return hash((status.st_ino, status.st_size, status.st_mtime_ns)) or 1
