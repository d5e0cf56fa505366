"""The frame of a segment."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmesh.segment import (
    HEADER_SIZE,
    FrameDamaged,
    encode_frame,
    read_frame_header,
    start_of_checksum,
)

NUMBERS = st.integers(0, 2**64 - 1)
BYTES = st.binary(max_size=200)


@given(NUMBERS, NUMBERS, BYTES, BYTES, BYTES, NUMBERS)
def test_a_frame_gives_back_what_was_put_into_it(
    attempt: int, mini_batch: int, schema: bytes, body: bytes, failed: bytes, rows: int
) -> None:
    frame = encode_frame(attempt, mini_batch, schema, body, failed, rows)
    header = read_frame_header(frame)
    assert header[:3] == (attempt, mini_batch, rows)
    assert header.frame_length == len(frame)
    assert frame[HEADER_SIZE:] == schema + failed + body
    assert frame[header.body_offset :] == body


@given(st.integers(0, HEADER_SIZE - 1))
def test_a_header_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(FrameDamaged):
        read_frame_header(encode_frame(7, 3, b"abcd", b"efgh", b"ijkl", 1)[:length])


def test_frames_that_follow_each_other_are_found_by_their_lengths() -> None:
    frames = [encode_frame(n, n, b"", b"x" * n, b"", 1) for n in range(5)]
    segment, at, found = b"".join(frames), 0, []
    while at < len(segment):
        header = read_frame_header(segment, at)
        found.append(header.attempt_id)
        at += header.frame_length
    assert found == list(range(5))


def test_a_long_frame_can_be_checked_in_pieces() -> None:
    frame = encode_frame(1, 2, b"schema", b"y" * 1000, b"", 9)
    running = start_of_checksum(frame[:HEADER_SIZE])
    for at in range(HEADER_SIZE, len(frame), 64):
        running = zlib.crc32(frame[at : at + 64], running)
    assert running == read_frame_header(frame).crc
