"""The frame of a segment: one attempt's bytes, checksummed, as the worker makes it and storage keeps it.

    header (52 bytes) | schema | failed lines | body
                                                └── last, so that a commit moves it by offset without decoding anything

It runs in the user's environment: standard library only, CPython 3.9 and later.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Union
from zlib import crc32

Buffer = Union[bytes, bytearray, memoryview]  # noqa: UP007 evaluated by CPython 3.9

MAGIC = b"bmf\x01"  # three letters and the version
_START = struct.Struct("<4sI")  # magic, crc32 of all that follows
_REST = struct.Struct("<QQQIIQ4x")  # attempt, mini-batch, rows, lengths of schema, failed lines and body
#: Magic, crc32 of all that follows, attempt, mini-batch, rows, lengths of schema, failed lines and body.
HEADER = struct.Struct("<4sIQQQIIQ4x")
#: Bytes of the header.
HEADER_SIZE = HEADER.size
#: Where that begins of which the header has the crc32.
CHECKED_FROM = _START.size


class FrameDamaged(ValueError):
    """Bytes that should be a frame are not one, or are not the one that was expected."""


class FrameHeader(NamedTuple):
    """What a frame says of itself. Lengths are bytes."""

    attempt_id: int
    mini_batch: int
    #: Rows of the output in the body.
    rows: int
    schema_length: int
    failed_length: int
    body_length: int
    crc: int

    @property
    def body_offset(self) -> int:
        """Where the body begins, from the beginning of the frame."""
        return HEADER_SIZE + self.schema_length + self.failed_length

    @property
    def frame_length(self) -> int:
        """Bytes of the whole frame."""
        return HEADER_SIZE + self.schema_length + self.failed_length + self.body_length


def encode_frame(attempt_id: int, mini_batch: int, schema: bytes, body: bytes, failed_lines: bytes, rows: int) -> bytes:
    """One frame. `schema`, `body` and `rows` are what a renderer gave for the result.

    `failed_lines` are complete lines of failed_items.jsonl for items of this mini-batch that failed although the
    mini-batch succeeded: rows that could not be read, a short return. They and `schema` are below 2^32 bytes.
    """
    rest = _REST.pack(attempt_id, mini_batch, rows, len(schema), len(failed_lines), len(body))
    head = b"".join((rest, schema, failed_lines))
    return b"".join((_START.pack(MAGIC, crc32(body, crc32(head))), head, body))


def read_frame_header(data: Buffer, offset: int = 0) -> FrameHeader:
    """The header at `offset` of `data`; raises FrameDamaged when there is none. The checksum is not looked at."""
    if len(data) - offset < HEADER_SIZE:
        raise FrameDamaged("The frame ends within its header.")
    magic, crc, attempt_id, mini_batch, rows, schema, failed, body = HEADER.unpack_from(data, offset)
    if magic != MAGIC:
        raise FrameDamaged("There is no frame here.")
    return FrameHeader(attempt_id, mini_batch, rows, schema, failed, body, crc)


def start_of_checksum(frame_head: Buffer) -> int:
    """The checksum of a frame of which this is the beginning; go on with zlib.crc32(piece, it), compare with `.crc`."""
    return crc32(memoryview(frame_head)[CHECKED_FROM:])
