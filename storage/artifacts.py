"""Artifacts: bytes kept under their SHA-256, visible only when whole and durable, until they are trimmed."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batchmesh.errors import DigestMismatch, DiskFull, NoArtifact

from .disk import make_folder, said_clearly, sync_folder

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import BinaryIO

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NEW = ".new-"
#: Seconds for which an artifact stays after it was used, whatever the limit: who has just found it is about to name it.
GRACE = 3600.0


class _Kept(NamedTuple):
    used: float
    digest: str
    size: int


class Artifacts:
    """The artifacts of this storage. All of it blocks. The time of a file is when it was last used."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()
        _clear_up(folder)

    def has(self, digest: str) -> bool:
        """Whether it is here, whole. Counts as a use."""
        if not _DIGEST.fullmatch(digest):
            return False
        with self._lock:
            if not self._path(digest).is_file():
                return False
            self._use(digest)
        return True

    def new(self, digest: str) -> NewArtifact:
        """Begins to take one in. Raises DigestMismatch for what is no digest, and DiskFull."""
        if not _DIGEST.fullmatch(digest):
            raise DigestMismatch(f"'{digest}' is no SHA-256; it has 64 of 0-9 and a-f.")
        return NewArtifact(self._path(digest), digest, self._limit, self._lock)

    def open(self, digest: str) -> BinaryIO:
        """Raises NoArtifact. Counts as a use."""
        if not self.has(digest):
            raise NoArtifact(f"Storage has no artifact {digest}; send it again.")
        return self._path(digest).open("rb")

    def trim(self, keep: Collection[str], limit: int, now: float) -> tuple[int, int]:
        """Deletes what is not to be kept, the least recently used first, down to `limit` bytes.

        Returns how many were deleted, and the bytes of those that are left. `now` is in seconds since 1970.
        """
        kept = self._all()
        total, deleted = sum(each.size for each in kept), 0
        for each in sorted(kept):
            if total <= limit or each.used > now - GRACE:
                break
            if each.digest in keep or not self._removed(each):
                continue
            total, deleted = total - each.size, deleted + 1
        return deleted, total

    def _removed(self, kept: _Kept) -> bool:
        """Removes it, unless somebody was told meanwhile that it is here."""
        path = self._path(kept.digest)
        with self._lock, suppress(FileNotFoundError):
            if path.stat().st_mtime != kept.used:
                return False
            path.unlink()
        return True

    def _all(self) -> list[_Kept]:
        found = []
        for path in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                if _DIGEST.fullmatch(path.name):
                    found.append(_Kept(status.st_mtime, path.name, status.st_size))
        return found

    def _use(self, digest: str) -> None:
        with suppress(OSError):  # then it goes a little earlier
            os.utime(self._path(digest))

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest


class NewArtifact:
    """An artifact on its way in. It is kept by keep(), and gone after discard()."""

    def __init__(self, path: Path, digest: str, limit: int, lock: threading.Lock) -> None:
        self._path = path
        self._digest = digest
        self._limit = limit
        self._lock = lock
        self._sha256 = hashlib.sha256()
        self._size = 0
        with said_clearly(path.parent):
            make_folder(path.parent)
            handle, name = tempfile.mkstemp(prefix=_NEW, dir=path.parent)
        self._temporary = Path(name)
        self._file = os.fdopen(handle, "wb")

    def write(self, data: bytes) -> None:
        """Adds bytes; raises DiskFull."""
        self._size += len(data)
        if self._size > self._limit:
            raise DiskFull(f"The artifact is larger than the {self._limit} bytes that storage takes; leave files out.")
        self._sha256.update(data)
        with said_clearly(self._path):
            self._file.write(data)

    def keep(self) -> None:
        """Publishes it; raises DigestMismatch when the bytes are not those that were announced, and DiskFull."""
        found = self._sha256.hexdigest()
        if found != self._digest:
            raise DigestMismatch(f"The bytes announced as {self._digest} are {found}; send them again.")
        with said_clearly(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            with self._lock:
                self._publish()

    def _publish(self) -> None:
        was_there = self._path.exists()
        self._temporary.replace(self._path)
        try:
            sync_folder(self._path.parent)
        except OSError:
            if not was_there:  # another sender may have been told of it
                self._path.unlink()
            raise

    def discard(self) -> None:
        """Leaves nothing behind of what was not kept."""
        with suppress(OSError):  # a full disk has been told of already
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def _clear_up(folder: Path) -> None:
    """What a killed predecessor was taking in goes; what it had just published is made durable."""
    for each in folder.glob("??"):
        for leftover in each.glob(f"{_NEW}*"):
            leftover.unlink()
        sync_folder(each)
