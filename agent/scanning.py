"""Looks into tables for the scheduler, which does not read large or remote ones.

    ScanTable ──in turn──▶ thread ──blocks or ranges──▶ file of this host, or of a datastore
              ◀──what is asked, or why the file cannot be read──┘

On threads: numpy, zlib and pyarrow let go of the interpreter while they work on a block, so that mini-batches go on
meanwhile; a process would take its own start, its own copy of these libraries, and the credentials of datastores.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from batchmesh.calls import MAX_MESSAGE
from batchmesh.data.plan_slices import PlanSlice, TableFile, Wanted, check_same
from batchmesh.data.slices import UnreadableFile
from batchmesh.data.sources import Source
from batchmesh.data.telling import tell
from batchmesh.datastores.reference import parse
from batchmesh.errors import InputRefused
from batchmesh.scan_messages import asked_in, response_of
from batchmesh.v1 import agent_pb2

from .threads import on_a_thread

if TYPE_CHECKING:
    from batchmesh.data.plan_slices import Told
    from batchmesh.datastores.store import Datastore

    from .files import Files
    from .storages import Storage

#: Bytes that are asked of a remote file at once where it is read from front to back.
_AHEAD = 4 * 2**20
#: Room for the rest of a message.
_LARGEST = MAX_MESSAGE - 2**16


class Scanning:
    """Answers ScanTable, so many requests at once as `at_once`; the others wait. Lives on the event loop."""

    def __init__(self, files: Files, at_once: int) -> None:
        self._files = files
        self._room = asyncio.Semaphore(at_once)

    async def scan(self, request: agent_pb2.ScanTableRequest, storage: Storage) -> agent_pb2.ScanTableResponse:
        """`storage` knows the datastores. One who does not wait any more ends the scan at its next block.

        Errors: Refused, NoEntry, BadEntry, DatastoreFailed, MeshUnreachable.
        """
        file, wanted = asked_in(request)
        async with self._room:
            place = await self._place(file, request.workspace, storage)
            ended = threading.Event()
            try:
                return await on_a_thread(partial(answered, file, wanted, place, ended), "scan")
            finally:
                ended.set()

    async def _place(self, file: TableFile, workspace: str, storage: Storage) -> Place:
        reference = parse(file.path)
        if reference is None:
            return Place(file.path, None)
        datastore = await self._files.open(storage, workspace or "default", reference.datastore)
        here = datastore.local(reference.path)
        return Place(reference.path, datastore) if here is None else Place(here, None)


class Place(NamedTuple):
    """Where a file lies: in a datastore, or at a path of this host."""

    path: str
    datastore: Datastore | None


def answered(
    file: TableFile, wanted: Wanted | PlanSlice, place: Place, ended: threading.Event
) -> agent_pb2.ScanTableResponse:
    """Blocks, until `ended` is set at the latest. Errors: DatastoreFailed, BadEntry."""
    try:
        response = response_of(_told(file, wanted, place, ended))
    except (UnreadableFile, InputRefused) as error:
        why = str(error)
        return agent_pb2.ScanTableResponse(unreadable=why if file.path in why else f"{file.path} cannot be read: {why}")
    if response.ByteSize() > _LARGEST:
        return agent_pb2.ScanTableResponse(
            unreadable=f"{file.path} cannot be read: it has more columns or row groups than one message holds; give "
            "--input-type files, and read it in the script"
        )
    return response


def _told(file: TableFile, wanted: Wanted | PlanSlice, place: Place, ended: threading.Event) -> Told:
    """One open file for all that is read: a remote one that changes meanwhile is no longer to be read then."""
    with _opened(file, place) as opened:
        size, stamp = _status(opened, place)
        check_same(file, size, stamp)
        ahead = place.datastore is not None and (isinstance(wanted, PlanSlice) or wanted is Wanted.CUTS)

        def read() -> BinaryIO:
            reading = _Reading(opened, ended)
            return io.BufferedReader(reading, _AHEAD) if ahead else cast("BinaryIO", reading)

        return tell(Source(file.path, read), replace(file, size=size, stamp=stamp), wanted)


def _opened(file: TableFile, place: Place) -> BinaryIO:
    """Unbuffered. Errors: UnreadableFile; those of Datastore.open."""
    if place.datastore is not None:
        opened = place.datastore.open(place.path)
        return cast("BinaryIO", opened.detach()) if isinstance(opened, io.BufferedReader) else opened
    try:
        return open(place.path, "rb", buffering=0)
    except OSError as error:
        raise UnreadableFile(f"{file.path} cannot be read: {error.strerror}") from None


def _status(opened: BinaryIO, place: Place) -> tuple[int, str]:
    """The size and stamp of what is read: of a remote file that has changed since it was opened, nothing can be."""
    if place.datastore is None:
        return os.fstat(opened.fileno()).st_size, ""
    found = next(place.datastore.find(place.path))
    if found.path != place.path:
        raise InputRefused("it is not a file; name one")
    return found.size, found.stamp


class _Reading(io.RawIOBase):
    """The file from its first byte on, until nobody waits for what is in it; closing it leaves the file open."""

    def __init__(self, file: BinaryIO, ended: threading.Event) -> None:
        super().__init__()
        self._file = file
        self._ended = ended
        file.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        if self._ended.is_set():
            raise InputRefused("nobody waits for it")
        count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        return count
