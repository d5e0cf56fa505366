"""Artifacts: bytes kept under their SHA-256, visible only when whole and durable."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh.errors import DigestMismatch, DiskFull, NoArtifact

from .disk import make_folder, said_clearly, sync_folder

if TYPE_CHECKING:
    from typing import BinaryIO

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Artifacts:
    """The artifacts of this storage. All of it blocks."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def has(self, digest: str) -> bool:
        """Whether it is here, whole."""
        return bool(_DIGEST.fullmatch(digest)) and self._path(digest).is_file()

    def new(self, digest: str) -> NewArtifact:
        """Begins to take one in. Raises DigestMismatch for what is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise DigestMismatch(f"'{digest}' is no SHA-256; it has 64 of 0-9 and a-f.")
        return NewArtifact(self._path(digest), digest, self._limit)

    def open(self, digest: str) -> BinaryIO:
        """Raises NoArtifact."""
        if not self.has(digest):
            raise NoArtifact(f"Storage has no artifact {digest}; send it again.")
        return self._path(digest).open("rb")

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest


class NewArtifact:
    """An artifact on its way in. It is kept by keep(), and gone after discard()."""

    def __init__(self, path: Path, digest: str, limit: int) -> None:
        self._path = path
        self._digest = digest
        self._limit = limit
        self._sha256 = hashlib.sha256()
        self._size = 0
        with said_clearly(path.parent):
            make_folder(path.parent)
            handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
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
        """Publishes it; raises DigestMismatch when the bytes are not those that were announced."""
        found = self._sha256.hexdigest()
        if found != self._digest:
            raise DigestMismatch(f"The bytes announced as {self._digest} are {found}; send them again.")
        with said_clearly(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._temporary.replace(self._path)
            sync_folder(self._path.parent)

    def discard(self) -> None:
        """Leaves nothing behind of what was not kept."""
        with suppress(OSError):  # a full disk has been told of already
            self._file.close()
        self._temporary.unlink(missing_ok=True)
