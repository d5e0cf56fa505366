"""Files of datastores that have been fetched to this host, shared by all that ask for them.

    hold() ──▶ is it there? ──no──▶ fetch(hidden path) ──rename──▶ FOLDER/<digest of its key>/<its own name>
                    └────────────────yes────────────────────────────────┘

Used by agents for what workers read. Blocking, and for any number of threads. The least
recently used go when all together are too large; what is held stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchmesh.errors import BatchmeshError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: What a file takes of the limit at least (bytes), so that many small ones do not fill the memory or the inodes.
_LEAST = 64 * 1024


class TooLarge(BatchmeshError):
    """What is to be fetched would not fit into the cache even if it were empty."""


class Held:
    """Something that has been fetched. It stays until `release`, which may be called again and from any thread."""

    def __init__(self, path: Path, release: Callable[[], None]) -> None:
        self.path = path
        self._release = release
        self._lock = threading.Lock()
        self._released = False

    def release(self) -> None:
        with self._lock:
            again, self._released = self._released, True
        if not again:
            self._release()


@dataclass
class _Entry:
    size: int
    users: int = 0
    #: Held by whoever fetches it.
    fetching: threading.Lock = field(default_factory=threading.Lock)


class Cache:
    """What is in `folder`, an earlier life's too. `limit` is in bytes; so many threads fetch at once as `parallel`."""

    def __init__(self, folder: Path, limit: int, parallel: int = 8) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(parallel)
        self._removed = 0
        #: By digest, least recently used first, and what all of them take.
        self._entries: dict[str, _Entry] = {}
        self._total = 0
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            if left.name.startswith("."):
                _remove(left)
            else:
                self._add(left.name, _size(left))
        self._shrink()

    def hold(self, key: tuple[str, ...], name: str, size: int, fetch: Callable[[Path], None]) -> Held:
        """What `key` stands for, under `name`; if it is not there, `fetch` makes a file or folder at the path given.

        `key` names one content for all times. `size` is what it takes, in bytes.
        Errors: TooLarge, what `fetch` raises, OSError (disk full, a name that no file may have).
        """
        if size > self._limit:
            raise TooLarge(f"it is {size:,} bytes, and what is fetched may take {self._limit:,}")
        digest = _digest(key)
        entry = self._enter(digest, size)
        path = self._folder / digest / name
        try:
            with entry.fetching:
                if not _is_whole(path, size):
                    self._fetch(path, fetch)
        except BaseException:
            self._leave(digest, entry, failed=True)
            raise
        return Held(path, lambda: self._leave(digest, entry, failed=False))

    def find(self, key: tuple[str, ...], name: str) -> Held | None:
        """As `hold`, but None if it is not there."""
        digest = _digest(key)
        with self._lock:
            entry = self._entries.pop(digest, None)
            if entry is None:
                return None
            self._entries[digest] = entry
            entry.users += 1
        held = Held(self._folder / digest / name, lambda: self._leave(digest, entry, failed=False))
        if held.path.exists():
            return held
        held.release()
        return None

    def _add(self, digest: str, size: int) -> _Entry:
        entry = self._entries[digest] = _Entry(max(size, _LEAST))
        self._total += entry.size
        return entry

    def _enter(self, digest: str, size: int) -> _Entry:
        """The entry, which is now the most recently used one and has one user more."""
        with self._lock:
            entry = self._entries.pop(digest, None)
            if entry is None:
                entry = self._add(digest, size)
            self._entries[digest] = entry
            entry.users += 1
        self._shrink()
        return entry

    def _leave(self, digest: str, entry: _Entry, *, failed: bool) -> None:
        with self._lock:
            entry.users -= 1
            if failed and not entry.users:
                del self._entries[digest]
                self._total -= entry.size
        self._shrink()

    def _fetch(self, path: Path, fetch: Callable[[Path], None]) -> None:
        hidden = path.parent / f".{hashlib.sha256(path.name.encode()).hexdigest()[:16]}"
        try:
            _remove(path.parent)
            path.parent.mkdir(parents=True)
            with self._room:
                fetch(hidden)
            _make_unwritable(hidden)
            os.rename(hidden, path)
        except BaseException:
            _remove(path.parent)
            raise

    def _idle(self) -> str | None:
        """The least recently used that nobody holds."""
        return next((digest for digest, entry in self._entries.items() if not entry.users), None)

    def _shrink(self) -> None:
        """What goes is renamed while nobody can ask for it, and deleted afterwards."""
        gone = []
        with self._lock:
            while self._total > self._limit and (digest := self._idle()):
                self._total -= self._entries.pop(digest).size
                self._removed += 1
                hidden = self._folder / f".{os.getpid()}-{self._removed}"
                with contextlib.suppress(OSError):
                    os.rename(self._folder / digest, hidden)
                    gone.append(hidden)
        for each in gone:
            _remove(each)


def _digest(key: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(key).encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _is_whole(path: Path, size: int) -> bool:
    """Whether it is there as it was fetched; a folder cannot be told by its size."""
    try:
        found = path.stat()
    except OSError:
        return False
    return path.is_dir() or found.st_size == size


def _make_unwritable(path: Path) -> None:
    """All jobs read the same file, so none may change it."""
    for file in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
        file.chmod(0o444)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _size(path: Path) -> int:
    return sum(each.lstat().st_size for each in path.rglob("*") if each.is_file())
