"""Frames, read at their places and checked against what the places say.

places (output order) ──▶ windows of up to 1 MiB ──▶ reads in the order of the disk ──▶ runs of bodies in output order
                    └───▶ longer frames ──▶ pieces, checked while they are moved

One buffer holds what is read; it is checked and written from there while the processor still has it in its cache.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from batchmesh.segment import (
    CHECKED_FROM,
    HEADER,
    HEADER_SIZE,
    MAGIC,
    FrameDamaged,
    read_frame_header,
    start_of_checksum,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .places import Places
    from .spool import Place

#: Bytes read ahead of what is written; a frame that is longer comes in pieces of this size.
_WINDOW = 2**20
#: Frames that lie this close (bytes) are read together.
_GAP = 4096
_OPEN_FILES = 128
#: Schemas that are remembered to have stood in a frame that was whole.
_SCHEMAS = 1000
#: What the disk says of a file that it has lost, or cannot read any more; too many open files are something else.
_GONE = (errno.ENOENT, errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.EISDIR)


class Run(NamedTuple):
    """Frames that follow one another with one schema, each of them what its place says."""

    schema: bytes
    rows: int
    #: They are overwritten once the next run is asked for.
    bodies: list[memoryview]
    #: Mini-batch and lines of each that carries failed lines.
    failed: list[tuple[int, bytes]]


@dataclass(frozen=True)
class LongFrame:
    """A frame that is too long to hold, up to its body."""

    mini_batch: int
    rows: int
    schema: bytes
    failed: list[tuple[int, bytes]]
    #: Whether all of it was read and found to be what its place says. If not, its schema has stood in one that was.
    is_checked: bool
    body: LongBody


class LongBody(NamedTuple):
    """The body of a long frame, which is checked whenever it is read."""

    fd: int
    offset: int
    length: int
    #: Checksum of what precedes it, and of all.
    before: int
    crc: int
    buffer: memoryview

    def pieces(self) -> Iterator[memoryview]:
        """The body, each piece until the next one; raises FrameDamaged behind the last one when they do not fit."""
        found = self.before
        for piece in _pieces(self.fd, self.offset, self.length, self.buffer):
            found = crc32(piece, found)
            yield piece
        if found != self.crc:
            raise FrameDamaged("The checksum of the frame does not fit its bytes.")

    def whole(self) -> bytearray:
        """The body, all of it in memory, once; raises FrameDamaged."""
        body, at = bytearray(self.length), 0
        for piece in self.pieces():
            body[at : at + len(piece)] = piece
            at += len(piece)
        return body

    def check(self) -> None:
        """Raises FrameDamaged."""
        for _ in self.pieces():
            pass


class Damaged(NamedTuple):
    """A place at which there is no such frame."""

    mini_batch: int


class FrameReader:
    """Reads the segments of one job. Blocks. Close it."""

    def __init__(self, places: Places, job_id: str, segments: list[str]) -> None:
        self._paths = [places.segment(job_id, name) for name in segments]
        self._open: OrderedDict[int, int] = OrderedDict()
        self._schemas: set[bytes] = set()
        self._buffer = bytearray(_WINDOW + HEADER_SIZE)
        self._view = memoryview(self._buffer)

    def close(self) -> None:
        """Closes the segments."""
        while self._open:
            os.close(self._open.popitem()[1])

    def frames(self, chunks: Iterable[list[Place]]) -> Iterator[Run | LongFrame | Damaged]:
        """All frames, and what is damaged, in the order of their places. Several may belong to one mini-batch."""
        for chunk in chunks:
            window: list[Place] = []
            size = 0
            for place in chunk:
                length = place[2]
                if size + length > _WINDOW:
                    yield from self._window(window)
                    window, size = [], 0
                if length > _WINDOW:
                    yield self._long(place)
                else:
                    window.append(place)
                    size += length
            yield from self._window(window)

    def _window(self, window: list[Place]) -> Iterator[Run | Damaged]:
        """Reads those frames and cuts them into runs. A frame costs a microsecond: this loop calls nothing of ours."""
        begins = self._read(window)
        buffer, view, unpack, schema = self._buffer, self._view, HEADER.unpack_from, b""
        run = Run(schema, 0, [], [])
        rows = 0
        for (_, _, length, mini_batch, attempt_id), at in zip(window, begins, strict=True):
            magic, crc, attempt, index, own_rows, schema_length, failed_length, body_length = unpack(buffer, at)
            end, head = at + length, at + HEADER_SIZE
            body = head + schema_length + failed_length
            is_sound = (
                body + body_length == end
                and attempt == attempt_id
                and index == mini_batch
                and magic == MAGIC
                and crc32(view[at + CHECKED_FROM : end]) == crc
            )
            if not is_sound or schema_length != len(schema) or not buffer.startswith(schema, head):
                if run.bodies:
                    yield run._replace(rows=rows)
                if not is_sound:
                    yield Damaged(mini_batch)
                    run, schema, rows = Run(b"", 0, [], []), b"", 0
                    continue
                schema = bytes(view[head : head + schema_length])
                self._remember(schema)
                run, rows = Run(schema, 0, [], []), 0
            rows += own_rows
            if failed_length:
                run.failed.append((mini_batch, bytes(view[body - failed_length : body])))
            run.bodies.append(view[body:end])
        if run.bodies:
            yield run._replace(rows=rows)

    def _read(self, window: list[Place]) -> list[int]:
        """Reads those frames into the buffer, neighbours together; returns where each begins."""
        begins = [0] * len(window)
        extents: list[tuple[int, int, int, int]] = []  # segment, where it begins and ends there, where in the buffer
        segment, start, until, at = -1, 0, 0, 0
        for number in sorted(range(len(window)), key=window.__getitem__):
            own_segment, offset, length, _, _ = window[number]
            if own_segment != segment or offset > until + _GAP:
                extents.append((segment, start, until, at))
                at += until - start
                segment, start, until = own_segment, offset, offset
            begins[number] = at + offset - start
            until = max(until, offset + length)
        extents.append((segment, start, until, at))
        self._make_room(at + until - start)
        for extent in extents[1:]:
            self._fill(*extent)
        return begins

    def _make_room(self, size: int) -> None:
        if size + HEADER_SIZE > len(self._buffer):  # whatever length a place has, a header can be read there
            self._buffer = bytearray(size + HEADER_SIZE)
            self._view = memoryview(self._buffer)

    def _fill(self, segment: int, start: int, until: int, at: int) -> None:
        """Reads a part of a segment into the buffer; what is not there, or cannot be read, is zeros."""
        end = at + until - start
        try:
            at += os.preadv(self._fd(segment), [self._view[at:end]], start)
        except OSError as error:
            _check_gone(error)
        self._view[at:end] = bytes(end - at)

    def _fd(self, segment: int) -> int:
        fd = self._open.pop(segment, None)
        if fd is None:
            if len(self._open) >= _OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            fd = os.open(self._paths[segment], os.O_RDONLY | os.O_CLOEXEC)
        self._open[segment] = fd
        return fd

    def _long(self, place: Place) -> LongFrame | Damaged:
        try:
            return self._found_long(place)
        except FrameDamaged:
            return Damaged(place[3])
        except OSError as error:
            _check_gone(error)
            return Damaged(place[3])

    def _found_long(self, place: Place) -> LongFrame:
        segment, offset, length, mini_batch, attempt_id = place
        fd = self._fd(segment)
        header = read_frame_header(os.pread(fd, HEADER_SIZE, offset))
        if header.frame_length != length or header[:2] != (attempt_id, mini_batch):
            raise FrameDamaged("The frame is another one.")
        if header.body_offset > _WINDOW:  # checked before it is held
            start = start_of_checksum(os.pread(fd, HEADER_SIZE, offset))
            LongBody(fd, offset + HEADER_SIZE, length - HEADER_SIZE, start, header.crc, self._view).check()
        head = os.pread(fd, header.body_offset, offset)
        start = start_of_checksum(head)
        body = LongBody(fd, offset + header.body_offset, header.body_length, start, header.crc, self._view)
        schema_end = HEADER_SIZE + header.schema_length
        schema, lines = head[HEADER_SIZE:schema_end], head[schema_end:]
        is_checked = schema not in self._schemas
        if is_checked:
            body.check()
            self._remember(schema)
        failed = [(mini_batch, lines)] if lines else []
        return LongFrame(mini_batch, header.rows, schema, failed, is_checked, body)

    def _remember(self, schema: bytes) -> None:
        if len(self._schemas) < _SCHEMAS:
            self._schemas.add(schema)


def _check_gone(error: OSError) -> None:
    """A frame has gone when its file is not there or cannot be read; any other error is raised again."""
    if error.errno not in _GONE:
        raise error


def _pieces(fd: int, offset: int, length: int, buffer: memoryview) -> Iterator[memoryview]:
    """What can be read of that part of a file."""
    end = offset + length
    while offset < end:
        try:
            size = os.preadv(fd, [buffer[: min(_WINDOW, end - offset)]], offset)
        except OSError as error:
            _check_gone(error)
            return
        if not size:
            return
        yield buffer[:size]
        offset += size
