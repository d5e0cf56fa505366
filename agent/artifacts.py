"""Sources, models and side inputs that came to storage as a tar: fetched once a node, and shared by all that name them.

    storage ──ReadArtifact──▶ tar (SHA-256 checked) ──▶ hidden folder ──rename──▶ artifacts/<digest>/

Their files can only be read (root aside), for all jobs read the same. The least recently used are removed when all
together are too large.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from batchmesh import calls, errors, status
from batchmesh.v1 import storage_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .storages import Storage


_HEX = frozenset("0123456789abcdef")


class ArtifactDamaged(errors.BatchmeshError):
    """What storage sent is not the artifact that the job names, or is no archive."""


class Artifacts:
    """The cache. Folders in use are never removed; the others go once all exceed the limit, oldest use first."""

    def __init__(self, folder: Path, limit: int, timeout: float) -> None:
        """`limit` in bytes; `timeout` is how long an unreachable storage is asked again, in seconds."""
        self._folder = folder
        self._limit = limit
        self._timeout = timeout
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._users: dict[str, int] = {}
        #: Bytes of each folder, least recently used first.
        self._sizes: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            if left.name.startswith("."):
                shutil.rmtree(left, ignore_errors=True)
            else:
                self._sizes[left.name] = _size(left)

    async def hold(self, storage: Storage, digest: str) -> Path:
        """The folder of what was packed, which stays until as many release() have followed.

        Errors: NoArtifact, ArtifactDamaged, MeshUnreachable, OSError (disk full).
        """
        if len(digest) != 64 or not _HEX.issuperset(digest):
            raise ArtifactDamaged(f"'{digest}' is no SHA-256 of an artifact.")
        self._users[digest] = self._users.get(digest, 0) + 1
        try:
            if digest not in self._sizes:
                await asyncio.shield(self._fetch_once(storage, digest))
        except BaseException:
            self.release(digest)
            raise
        self._sizes[digest] = self._sizes.pop(digest)
        return self._folder / digest

    def release(self, digest: str) -> None:
        self._users[digest] -= 1
        if not self._users[digest]:
            del self._users[digest]
        self._shrink()

    def _fetch_once(self, storage: Storage, digest: str) -> asyncio.Task[None]:
        """All that wait for an artifact share one fetch, which goes on when nobody waits any more."""
        if digest not in self._fetches:
            self._fetches[digest] = asyncio.create_task(self._fetch(storage, digest))
            self._fetches[digest].add_done_callback(lambda fetch: self._fetched(digest, fetch))
        return self._fetches[digest]

    def _fetched(self, digest: str, fetch: asyncio.Task[None]) -> None:
        del self._fetches[digest]
        if not fetch.cancelled():
            fetch.exception()  # whoever waits hears of it; it may be that nobody does

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
            raise ArtifactDamaged(f"Storage sent {got} for the artifact {digest}; submit the job again.")

    def _shrink(self) -> None:
        for digest in list(self._sizes):
            if sum(self._sizes.values()) <= self._limit:
                return
            if digest not in self._users:
                del self._sizes[digest]
                doomed = tempfile.mkdtemp(prefix=".", dir=self._folder)
                os.rename(self._folder / digest, os.path.join(doomed, digest))
                asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, doomed, True)


async def _received(storage: Storage, digest: str, path: Path) -> str:
    """Writes the artifact to `path` and returns the digest of what came."""
    summer = hashlib.sha256()

    def take(data: bytes) -> None:
        summer.update(data)
        file.write(data)

    with path.open("wb") as file:
        async for response in storage.ReadArtifact(storage_pb2.ReadArtifactRequest(digest=digest)):
            await asyncio.to_thread(take, response.data)
    return summer.hexdigest()


def _extract(temporary: Path, target: Path) -> int:
    """Unpacks, moves in place, and returns the bytes used."""
    folder = temporary / "folder"
    try:
        with tarfile.open(temporary / "tar", "r:") as archive:
            # Python before 3.11.4 has no filters; what is unpacked comes from a client whose script runs here anyway.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(folder)  # noqa: S202 filtered by the line above
    except tarfile.TarError as error:
        raise ArtifactDamaged(f"The artifact {target.name} cannot be unpacked: {error}.") from error
    folder.mkdir(exist_ok=True)
    for path in _files(folder):
        path.chmod(path.stat().st_mode & ~0o222)
    size = _size(folder)
    os.rename(folder, target)
    return size


def _size(folder: Path) -> int:
    return sum(each.lstat().st_size for each in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    return (each for each in folder.rglob("*") if each.is_file() and not each.is_symlink())
