"""The source folders of jobs: fetched once per node and shared by all jobs that name them.

    storage ──ReadArtifact──▶ tar (SHA-256 checked) ──▶ hidden folder ──rename──▶ sources/<digest>/

The least recently used are removed when all together are too large.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tarfile
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from batchmesh import calls, errors, status
from batchmesh.v1 import storage_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .storages import Storage


_HEX = frozenset("0123456789abcdef")


class SourceDamaged(errors.BatchmeshError):
    """What storage sent is not the artifact that the job names, or is no archive."""


class Sources:
    """The cache. Folders in use are never removed; the others go once all exceed the limit, oldest use first."""

    def __init__(self, folder: Path, limit: int, timeout: float) -> None:
        """`limit` in bytes; `timeout` is how long an unreachable storage is asked again, in seconds."""
        self._folder = folder
        self._limit = limit
        self._timeout = timeout
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}
        #: Bytes of each folder, least recently used first.
        self._sizes: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            if left.name.startswith("."):
                shutil.rmtree(left, ignore_errors=True)
            else:
                self._sizes[left.name] = _size(left)

    @asynccontextmanager
    async def held(self, storage: Storage, digest: str) -> AsyncIterator[Path]:
        """The source's folder, which stays while this is held.

        Errors: NoArtifact, SourceDamaged, MeshUnreachable, OSError (disk full).
        """
        await self.hold(storage, digest)
        try:
            yield self._folder / digest
        finally:
            self.release(digest)

    async def hold(self, storage: Storage, digest: str) -> Path:
        """As `held`; release() is to follow."""
        if len(digest) != 64 or not _HEX.issuperset(digest):
            raise SourceDamaged(f"'{digest}' is no SHA-256 of a source.")
        self._users[digest] = self._users.get(digest, 0) + 1
        try:
            async with self._locks.setdefault(digest, asyncio.Lock()):
                if digest not in self._sizes:
                    await self._fetch(storage, digest)
        except BaseException:
            self.release(digest)
            raise
        self._sizes[digest] = self._sizes.pop(digest)
        return self._folder / digest

    def hold_again(self, digest: str) -> None:
        """One user more of a source that is held already."""
        self._users[digest] += 1

    def release(self, digest: str) -> None:
        self._users[digest] -= 1
        if not self._users[digest]:
            del self._users[digest]
        self._shrink()

    async def _fetch(self, storage: Storage, digest: str) -> None:
        """The work is done in a hidden folder beside, so that what has its name is whole."""
        temporary = Path(tempfile.mkdtemp(prefix=".", dir=self._folder))
        try:
            await self._download(storage, digest, temporary / "tar")
            self._sizes[digest] = await asyncio.to_thread(_extract, temporary, self._folder / digest)
        finally:
            await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)

    async def _download(self, storage: Storage, digest: str, path: Path) -> None:
        try:
            got = await calls.retried(self._timeout)(_received)(storage, digest, path)
        except grpc.RpcError as error:
            raise status.from_rpc_error(error, "Storage") from error
        if got != digest:
            raise SourceDamaged(f"Storage sent {got} for the source {digest}; submit the job again.")

    def _shrink(self) -> None:
        for digest in list(self._sizes):
            if sum(self._sizes.values()) <= self._limit:
                return
            if digest not in self._users:
                del self._sizes[digest]
                doomed = self._folder / f".{digest}"
                os.rename(self._folder / digest, doomed)
                shutil.rmtree(doomed, ignore_errors=True)


async def _received(storage: Storage, digest: str, path: Path) -> str:
    """Writes the artifact to `path` and returns the digest of what came."""
    summer = hashlib.sha256()
    with path.open("wb") as file:
        async for response in storage.ReadArtifact(storage_pb2.ReadArtifactRequest(digest=digest)):
            summer.update(response.data)
            file.write(response.data)
    return summer.hexdigest()


def _extract(temporary: Path, target: Path) -> int:
    """Unpacks, moves in place, and returns the bytes used."""
    folder = temporary / "source"
    try:
        with tarfile.open(temporary / "tar", "r:") as archive:
            # Python before 3.11.4 has no filters; what is unpacked comes from a client whose script runs here anyway.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(folder)  # noqa: S202 filtered by the line above
    except tarfile.TarError as error:
        raise SourceDamaged(f"The source {target.name} cannot be unpacked: {error}.") from error
    folder.mkdir(exist_ok=True)
    size = _size(folder)
    os.rename(folder, target)
    return size


def _size(folder: Path) -> int:
    return sum(each.lstat().st_size for each in folder.rglob("*") if each.is_file())
