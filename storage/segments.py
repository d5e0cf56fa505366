"""Segments: blocks of frames made durable, many streams sharing one sync.

    stream ──append(block)──▶ queue ──▶ writer thread: all that waits is one group
      ▲                                   pwrite each block, then one fdatasync for each segment touched
      └────────── durable size ◀──────────┘ then all are told

Only the writer thread touches segments and their files, so nothing here is locked. Each stream has one block at a time
in the queue, and all together are bounded.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import Gap, StorageBusy

from .disk import is_full, make_folder, meaning, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .places import Places

    Key = tuple[str, str]

#: Names of segments that have ended that are remembered.
_ENDED = 10_000


class Segment:
    """One file. Belongs to the writer thread.

    The sender knows where it goes on: what lies before the offset of its first block was acknowledged to it, and what
    lies behind it was not, whatever it looks like. A predecessor that was killed may have left a torn frame there, or a
    whole one that is in the page cache alone. So nothing of it is trusted: the sender's bytes are written over it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        #: Bytes in the file.
        self.size = os.fstat(self._fd).st_size
        #: Bytes that are never cut off: what was there, then what is durable.
        self._kept = self.size
        #: Where the last block ends, and up to where that is durable by a sync of ours.
        self._end = self._synced = 0
        self._has_name = False

    def append(self, offset: int, block: bytes) -> int:
        """Writes what of the block is not durable yet; returns what the durable size is once sync() has returned.

        Raises Gap when the block begins past the end, and OSError.
        """
        if offset > self.size:
            raise Gap(
                f"Segment {self.path.name} has {self.size} bytes, and the block begins at {offset}; send the rest."
            )
        skip = max(self._synced - offset, 0)
        if skip < len(block):
            self._write(offset + skip, memoryview(block)[skip:])
        self._end = max(self._end, offset + len(block))
        return self._end

    def _write(self, offset: int, data: memoryview) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], offset + written)
        except OSError:
            with suppress(OSError):  # the first error is the one to tell
                os.ftruncate(self._fd, self.size)
            raise
        self.size = max(self.size, offset + written)

    def sync(self) -> None:
        """Makes all that was appended durable."""
        os.fdatasync(self._fd)
        if not self._has_name:
            # Those of the segment, of its folder and of its job: a predecessor may have been killed before this.
            for folder in self.path.parents[:3]:
                sync_folder(folder)
            self._has_name = True
        self._synced = self._end
        self._kept = max(self._kept, self._end)

    def cut(self) -> None:
        """After a failed sync: what is in the page cache alone goes, since no later sync would say so again."""
        with suppress(OSError):  # what cannot be cut off is written over, or never asked for
            os.ftruncate(self._fd, self._kept)
        self.size, self._end = self._kept, self._synced

    @property
    def is_empty(self) -> bool:
        """Nothing of it is worth keeping."""
        return not self._kept

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):  # what was acknowledged is durable; there is nothing more to lose
            os.close(self._fd)


@dataclass
class _Block:
    key: Key
    offset: int
    data: bytes
    told: asyncio.Future[int]
    durable: int = 0
    error: Exception | None = None


@dataclass
class _Turn:
    """Something else for the writer thread to do, in its turn."""

    act: Callable[[], None]


class Segments:
    """All segments of this storage. Its methods are called on the event loop."""

    def __init__(self, places: Places, durable_delay: float, limit: int) -> None:
        """`limit`: bytes of blocks that may wait to be written."""
        self._places = places
        self._delay = durable_delay
        self._limit = limit
        self._waiting = 0
        self._queue: queue.SimpleQueue[_Block | _Turn | None] = queue.SimpleQueue()
        self._open: dict[Key, Segment] = {}
        #: Segments that take nothing more, and why; a sender that has not heard of it yet is told again.
        self._ended: dict[Key, str] = {}
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="segments", daemon=True)
        self._thread.start()

    def append(self, job_id: str, name: str, offset: int, data: bytes) -> asyncio.Future[int]:
        """Answers with the durable size of the segment, once the block is in it.

        Raises StorageBusy at once; the answer raises BadName, Gap or DiskFull.
        """
        if self._waiting and self._waiting + len(data) > self._limit:
            raise StorageBusy(f"Storage has {self._waiting} bytes to write; send the block again in a moment.")
        self._waiting += len(data)
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
            for key in [key for key in self._ended if key[0] == job_id]:
                del self._ended[key]
            self._loop.call_soon_threadsafe(_tell_done, told)

        self._queue.put(_Turn(act))
        await told

    async def end(self) -> None:
        """Writes what waits, and ends the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _tell(self, group: list[_Block]) -> None:
        for block in group:
            self._waiting -= len(block.data)
            if block.told.done():  # its stream was cut
                continue
            if block.error is None:
                block.told.set_result(block.durable)
            else:
                block.told.set_exception(block.error)

    # From here on, all is the writer thread's.

    def _work(self) -> None:
        while self._write_what_waits():
            pass

    def _write_what_waits(self) -> bool:
        """Waits for something to do and does all there is; returns whether there will be more."""
        waiting = [self._queue.get()]
        waiting += [self._queue.get_nowait() for _ in range(self._queue.qsize())]
        group: list[_Block] = []
        for each in waiting:
            if isinstance(each, _Block):
                group.append(each)
                continue
            # What comes before a turn is written before it.
            self._write_group(group)
            group = []
            if each is not None:
                each.act()
        self._write_group(group)
        return None not in waiting

    def _write_group(self, group: list[_Block]) -> None:
        if not group:
            return
        for block in group:
            self._write(block)
        for key in {block.key for block in group if block.error is None}:
            self._sync(key, group)
        if self._delay:
            time.sleep(self._delay)
        self._loop.call_soon_threadsafe(self._tell, group)

    def _write(self, block: _Block) -> None:
        try:
            block.durable = self._segment(block.key, block.offset).append(block.offset, block.data)
        except Exception as error:  # noqa: BLE001 it is the stream's to raise
            block.error = self._judged(block.key, error)

    def _segment(self, key: Key, offset: int) -> Segment:
        if key in self._ended:
            raise Gap(self._ended[key])
        if key not in self._open:
            path = self._places.segment(*key)
            if offset and not path.exists():  # it was deleted with its job: it is not begun anew by what comes late
                raise Gap(f"There is no segment {path.name}, and the block begins at {offset}; send all of it.")
            self._open[key] = Segment(path)
        return self._open[key]

    def _sync(self, key: Key, group: list[_Block]) -> None:
        try:
            if key in self._ended:  # by a later block of the group
                raise Gap(self._ended[key])
            self._open[key].sync()
        except Exception as error:  # noqa: BLE001 it is the streams' to raise
            if is_full(error):
                self._open[key].cut()
            told = self._judged(key, error)
            for block in group:
                if block.key == key:
                    block.error = told

    def _judged(self, key: Key, error: Exception) -> Exception:
        """What the stream is told; a segment at which the disk fails takes nothing more."""
        if not isinstance(error, OSError):
            return error
        segment = self._open.get(key)
        # A file that may grow no more is followed by another one, unless this is as small as one can be.
        has_hope = is_full(error) or (error.errno == errno.EFBIG and segment is not None and not segment.size)
        if segment is None or has_hope:
            return meaning(error, self._places.segment(*key)) or error
        return Gap(self._end_for_good(key, segment, error))

    def _end_for_good(self, key: Key, segment: Segment, error: OSError) -> str:
        """Nothing is acknowledged that may be in the page cache alone, and nobody asks this file again."""
        sentence = f"Segment {key[1]} cannot be written ({os.strerror(error.errno or 0)}); begin another one."
        structlog.get_logger().error("segment_ended", job=key[0], segment=key[1], error=str(error))
        segment.cut()
        if segment.is_empty:
            with suppress(OSError):
                segment.path.unlink()
        self._close(key)
        while len(self._ended) >= _ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[key] = sentence
        return sentence

    def _close(self, key: Key) -> None:
        segment = self._open.pop(key, None)
        if segment:
            segment.close()


def _tell_done(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
