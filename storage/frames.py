"""Frames, read at their places and checked against what the places say.

places (output order) ──▶ windows of up to 8 MiB ──▶ reads in the order of the disk ──▶ frames in output order
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from batchmesh.segment import (
    HEADER_SIZE,
    FrameDamaged,
    FrameHeader,
    check_frame,
    read_frame_header,
    start_of_checksum,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from batchmesh.segment import Buffer

    from .places import Places

#: Bytes read ahead of what is written; a frame that is longer comes in pieces.
_WINDOW = 8 * 2**20
_PIECE = 4 * 2**20
#: Frames that lie this close (bytes) are read together.
_GAP = 4096
_OPEN_FILES = 128
#: What the disk says of a file that it has lost, or cannot read any more; too many open files are something else.
_GONE = (errno.ENOENT, errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.EISDIR)


class LongBody(NamedTuple):
    """The body of a frame that is too long to hold. It has been checked, and is checked again while it is read."""

    fd: int
    offset: int
    length: int
    #: Checksum of what precedes it, and of all.
    before: int
    crc: int

    def pieces(self) -> Iterator[bytes]:
        """The body, in pieces; raises FrameDamaged behind the last one when they are not what was checked."""
        found = self.before
        for piece in _pieces(self.fd, self.offset, self.length):
            found = crc32(piece, found)
            yield piece
        if found != self.crc:
            raise FrameDamaged("The frame has changed since it was checked.")

    def whole(self) -> bytes:
        """The body, all of it in memory; raises FrameDamaged."""
        return b"".join(self.pieces())


class Frame(NamedTuple):
    """A frame that is what its place says."""

    header: FrameHeader
    schema: bytes
    failed_lines: bytes
    body: Buffer | LongBody


class Damaged(NamedTuple):
    """A place at which there is no such frame."""

    mini_batch: int


class FrameReader:
    """Reads the segments of one job. Blocks. Close it."""

    def __init__(self, places: Places, job_id: str, segments: list[str]) -> None:
        self._paths = [places.segment(job_id, name) for name in segments]
        self._open: OrderedDict[int, int] = OrderedDict()

    def close(self) -> None:
        """Closes the segments."""
        while self._open:
            os.close(self._open.popitem()[1])

    def frames(self, chunks: Iterable[np.ndarray[Any, Any]]) -> Iterator[Frame | Damaged]:
        """A frame, or that it is damaged, for each place, in their order. Several may belong to one mini-batch."""
        for chunk in chunks:
            window: list[tuple[int, int, int, int, int]] = []
            size = 0
            for place in chunk.tolist():
                if size + place[2] > _WINDOW:
                    yield from self._window(window)
                    window, size = [], 0
                if place[2] > _WINDOW:
                    yield self._long(place)
                else:
                    window.append(place)
                    size += place[2]
            yield from self._window(window)

    def _window(self, window: list[tuple[int, int, int, int, int]]) -> Iterator[Frame | Damaged]:
        found: list[Buffer] = [b""] * len(window)
        order = sorted(range(len(window)), key=window.__getitem__)
        begin = 0
        while begin < len(order):
            end, until = begin + 1, sum(window[order[begin]][1:3])
            segment, start = window[order[begin]][:2]
            while end < len(order) and _continues(window[order[end]], segment, until):
                until = max(until, sum(window[order[end]][1:3]))
                end += 1
            data = memoryview(self._read(segment, start, until - start))
            for index in order[begin:end]:
                at = window[index][1] - start
                found[index] = data[at : at + window[index][2]]
            begin = end
        for place, bytes_of_frame in zip(window, found, strict=True):
            yield _frame(place, bytes_of_frame)

    def _read(self, segment: int, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._fd(segment), length, offset)
        except OSError as error:
            _check_gone(error)
            return b""

    def _fd(self, segment: int) -> int:
        fd = self._open.pop(segment, None)
        if fd is None:
            if len(self._open) >= _OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            fd = os.open(self._paths[segment], os.O_RDONLY | os.O_CLOEXEC)
        self._open[segment] = fd
        return fd

    def _long(self, place: tuple[int, int, int, int, int]) -> Frame | Damaged:
        segment, offset, length, mini_batch, attempt_id = place
        try:
            fd = self._fd(segment)
            header = read_frame_header(os.pread(fd, HEADER_SIZE, offset))
            if (
                header.frame_length != length
                or header[:2] != (attempt_id, mini_batch)
                or not _is_sound(fd, place, header)
            ):
                return Damaged(mini_batch)
            head = os.pread(fd, header.body_offset, offset)
        except FrameDamaged:
            return Damaged(mini_batch)
        except OSError as error:
            _check_gone(error)
            return Damaged(mini_batch)
        schema, failed_lines = _head(header, head)
        body = LongBody(fd, offset + header.body_offset, header.body_length, start_of_checksum(head), header.crc)
        return Frame(header, schema, failed_lines, body)


def _check_gone(error: OSError) -> None:
    """A frame has gone when its file is not there or cannot be read; any other error is raised again."""
    if error.errno not in _GONE:
        raise error


def _continues(place: tuple[int, int, int, int, int], segment: int, until: int) -> bool:
    return place[0] == segment and place[1] <= until + _GAP


def _frame(place: tuple[int, int, int, int, int], data: Buffer) -> Frame | Damaged:
    try:
        header = check_frame(data)
    except FrameDamaged:
        return Damaged(place[3])
    if header.attempt_id != place[4] or header.mini_batch != place[3]:
        return Damaged(place[3])
    schema, failed_lines = _head(header, data)
    return Frame(header, schema, failed_lines, memoryview(data)[header.body_offset :])


def _head(header: FrameHeader, frame: Buffer) -> tuple[bytes, bytes]:
    schema_end = HEADER_SIZE + header.schema_length
    return bytes(frame[HEADER_SIZE:schema_end]), bytes(frame[schema_end : header.body_offset])


def _is_sound(fd: int, place: tuple[int, int, int, int, int], header: FrameHeader) -> bool:
    found = start_of_checksum(os.pread(fd, HEADER_SIZE, place[1]))
    for piece in _pieces(fd, place[1] + HEADER_SIZE, place[2] - HEADER_SIZE):
        found = crc32(piece, found)
    return found == header.crc


def _pieces(fd: int, offset: int, length: int) -> Iterator[bytes]:
    end = offset + length
    while offset < end:
        piece = os.pread(fd, min(_PIECE, end - offset), offset)
        if not piece:
            return
        yield piece
        offset += len(piece)
