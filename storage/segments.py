"""Segments: blocks of frames made durable, many streams sharing one sync.

    stream ──append(block)──▶ queue ──▶ writer thread: all that waits is one group
      ▲                                   pwrite each block, then one fdatasync for each segment touched
      └────────── durable size ◀──────────┘ then all are told

Only the writer thread touches segments and their files, so nothing here is locked. The blocks in the queue are bounded
by the streams: each has one at a time.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from batchmesh.errors import Gap
from batchmesh.segment import HEADER_SIZE, FrameDamaged, read_frame_header, start_of_checksum

from .disk import make_folder, said_clearly, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .places import Places

#: Frames that end in the last bytes of a segment are read whole when it is opened again: only what was not yet
#: acknowledged can be torn, and agents bound that (64 MiB).
_UNSURE = 64 * 2**20
_READ = 2**20


class Segment:
    """One file. Belongs to the writer thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        self.is_new = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._fd).st_size
        #: Bytes written; durable once sync() has returned.
        self.size = end_of_whole_frames(self._fd, size) if size else 0
        self._on_disk = size

    def append(self, offset: int, block: bytes) -> None:
        """Writes what of the block lies past the end; raises Gap when it begins past the end."""
        if self._on_disk > self.size:
            self._cut(offset)
        if offset > self.size:
            raise Gap(
                f"Segment {self.path.name} has {self.size} bytes, and the block begins at {offset}; send the rest."
            )
        skip = self.size - offset
        if skip < len(block):
            self._write(memoryview(block)[skip:])

    def _cut(self, offset: int) -> None:
        # What follows the last whole frame may be torn, or the acknowledged part of a long frame. The sender knows: it
        # goes on where the last acknowledgement ended, so what lies before its offset is good.
        self.size = max(self.size, min(offset, self._on_disk))
        os.ftruncate(self._fd, self.size)
        self._on_disk = self.size

    def _write(self, data: memoryview) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self.size + written)
        except OSError:
            with suppress(OSError):  # the first error is the one to tell
                os.ftruncate(self._fd, self.size)
            raise
        self.size += written
        self._on_disk = self.size

    def sync(self) -> None:
        """Makes all that was appended durable."""
        os.fdatasync(self._fd)
        if self.is_new:
            sync_folder(self.path.parent)
            self.is_new = False

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)


def end_of_whole_frames(fd: int, size: int) -> int:
    """Offset at which the last whole and valid frame of a segment ends. Headers are followed from the beginning."""
    at, buffer, start = 0, b"", 0
    while size - at >= HEADER_SIZE:
        if at + HEADER_SIZE > start + len(buffer):
            buffer, start = os.pread(fd, _READ, at), at
        try:
            header = read_frame_header(buffer, at - start)
        except FrameDamaged:
            return at
        end = at + header.frame_length
        if end > size or (end > size - _UNSURE and not _is_sound(fd, at, end, header.crc)):
            return at
        at = end
    return at


def _is_sound(fd: int, begin: int, end: int, crc: int) -> bool:
    found = start_of_checksum(os.pread(fd, HEADER_SIZE, begin))
    at = begin + HEADER_SIZE
    while at < end:
        piece = os.pread(fd, min(_READ, end - at), at)
        if not piece:
            return False
        found = crc32(piece, found)
        at += len(piece)
    return found == crc


@dataclass
class _Block:
    key: tuple[str, str]
    offset: int
    data: bytes
    told: asyncio.Future[int]
    durable: int = 0
    error: BaseException | None = None


@dataclass
class _Turn:
    """Something else for the writer thread to do, in its turn."""

    act: Callable[[], None]


class Segments:
    """All segments of this storage. Its methods are called on the event loop."""

    def __init__(self, places: Places, durable_delay: float) -> None:
        self._places = places
        self._delay = durable_delay
        self._queue: queue.SimpleQueue[_Block | _Turn | None] = queue.SimpleQueue()
        self._open: dict[tuple[str, str], Segment] = {}
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_groups, name="segments", daemon=True)
        self._thread.start()

    def append(self, job_id: str, name: str, offset: int, data: bytes) -> asyncio.Future[int]:
        """Answers with the durable size of the segment, once the block is in it.

        Raises BadName at once; the answer raises Gap or DiskFull.
        """
        self._places.segment(job_id, name)
        told: asyncio.Future[int] = self._loop.create_future()
        self._queue.put(_Block((job_id, name), offset, data, told))
        return told

    def release(self, job_id: str, name: str) -> None:
        """A stream no longer writes to this segment; its file is closed, and opened again if another one does."""
        self._queue.put(_Turn(lambda: self._close((job_id, name))))

    async def forget(self, job_id: str) -> None:
        """Closes the files of a job that is being deleted."""
        told: asyncio.Future[None] = self._loop.create_future()

        def act() -> None:
            for key in [key for key in self._open if key[0] == job_id]:
                self._close(key)
            self._loop.call_soon_threadsafe(_tell_done, told)

        self._queue.put(_Turn(act))
        await told

    async def end(self) -> None:
        """Writes what waits, and ends the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _close(self, key: tuple[str, str]) -> None:
        segment = self._open.pop(key, None)
        if segment:
            segment.close()

    def _write_groups(self) -> None:
        ended = False
        while not ended:
            group: list[_Block] = []
            waiting = [self._queue.get()]
            waiting += [self._queue.get_nowait() for _ in range(self._queue.qsize())]
            for each in waiting:
                if isinstance(each, _Block):
                    group.append(each)
                    continue
                # What comes before a turn is written before it.
                self._write_group(group)
                group = []
                if each is None:
                    ended = True
                else:
                    each.act()
            self._write_group(group)

    def _write_group(self, group: list[_Block]) -> None:
        if not group:
            return
        for block in group:
            self._write(block)
        for key in {block.key for block in group if block.error is None}:
            self._sync(key, group)
        if self._delay:
            time.sleep(self._delay)
        self._loop.call_soon_threadsafe(_tell, group)

    def _write(self, block: _Block) -> None:
        try:
            with said_clearly(self._places.segment(*block.key)):
                segment = self._open.get(block.key)
                if segment is None:
                    segment = self._open[block.key] = Segment(self._places.segment(*block.key))
                segment.append(block.offset, block.data)
                block.durable = segment.size
        except Exception as error:  # noqa: BLE001 it is the stream's to raise
            block.error = error

    def _sync(self, key: tuple[str, str], group: list[_Block]) -> None:
        try:
            with said_clearly(self._places.segment(*key)):
                self._open[key].sync()
        except Exception as error:  # noqa: BLE001 it is the streams' to raise
            # After a failed sync nobody knows what is on the disk: the file is looked at anew when it is opened again.
            self._close(key)
            for block in group:
                if block.key == key:
                    block.error = error


def _tell(group: list[_Block]) -> None:
    for block in group:
        if block.told.done():  # its stream was cut
            continue
        if block.error is None:
            block.told.set_result(block.durable)
        else:
            block.told.set_exception(block.error)


def _tell_done(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
