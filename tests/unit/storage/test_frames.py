"""Frames at their places: what is whole comes in order, and whatever is not is named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchmesh.segment import HEADER_SIZE, FrameDamaged, encode_frame
from batchmesh.storage.frames import Damaged, FrameReader, LongFrame, Run
from batchmesh.storage.places import Places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh.storage.spool import Place

#: Longer than what is held of several frames at a time.
LONG = 3 * 2**20 + 5
#: Bytes, by segment, and the places of frames in them.
Told = tuple[int, bytes, bytes, list[tuple[int, bytes]]]


class Job:
    """Segments of a job that frames are put into, and the places of these."""

    def __init__(self, root: Path) -> None:
        self._root = Places(root)
        self.blocks: dict[str, bytearray] = {}
        self.places: list[Place] = []

    def add(self, mini_batch: int, schema: bytes, body: bytes, failed: bytes = b"", segment: str = "0") -> None:
        block = self.blocks.setdefault(segment, bytearray())
        frame = encode_frame(100 + mini_batch, mini_batch, schema, body, failed, len(body))
        self.places.append((int(segment), len(block), len(frame), mini_batch, 100 + mini_batch))
        block += frame

    def read(self) -> Iterator[Run | LongFrame | Damaged]:
        for name, block in self.blocks.items():
            path = self._root.segment("j", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(block)
        reader = FrameReader(self._root, "j", [str(number) for number in range(3)])
        yield from reader.frames([self.places[at : at + 5] for at in range(0, len(self.places), 5)])
        reader.close()


def told(found: Run | LongFrame | Damaged) -> list[Told] | int:
    """(rows, schema, body, failed) of what comes together, or the mini-batch that is damaged."""
    if isinstance(found, Damaged):
        return found.mini_batch
    if isinstance(found, Run):
        return [(found.rows, found.schema, b"".join(found.bodies), found.failed)]
    try:
        return [(found.rows, found.schema, bytes(found.body.whole()), found.failed)]
    except FrameDamaged:
        return found.mini_batch


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_frames_of_one_schema_come_together_and_in_order_wherever_they_lie(job: Job) -> None:
    for number in range(4):
        job.add(number, b"s", b"%d" % number, b"failed\n" if number == 2 else b"", str(number % 3))
    job.add(4, b"other", b"4")
    job.places[1:3] = job.places[2:0:-1]
    assert list(map(told, job.read())) == [
        [(4, b"s", b"0213", [(2, b"failed\n")])],
        [(1, b"other", b"4", [])],
    ]


def test_a_long_frame_comes_in_pieces_that_are_checked_before_or_while_it_is_read(job: Job) -> None:
    body = os.urandom(LONG)
    for number in range(3):
        job.add(number, b"s", body, b"failed\n")
    found = []
    for frame in job.read():
        assert isinstance(frame, LongFrame)
        assert frame.body.whole() == body
        assert frame.failed == [(frame.mini_batch, b"failed\n")]
        found.append(frame.is_checked)
    assert found == [True, False, False]


def test_failed_lines_beyond_what_is_held_are_as_good_as_others(job: Job) -> None:
    lines = os.urandom(LONG)
    job.add(0, b"s", b"body", lines)
    assert list(map(told, job.read())) == [[(4, b"s", b"body", [(0, lines)])]]
    job.blocks["0"][-6] ^= 1
    assert list(map(told, job.read())) == [0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 8 * (HEADER_SIZE + 12) - 1))
def test_any_flipped_bit_is_noticed_and_costs_its_own_frame_alone(tmp_path: Path, bit: int) -> None:
    job = Job(tmp_path)
    for number in range(3):
        job.add(number, b"abcd", b"%04d" % number, b"ijk\n")
    job.blocks["0"][HEADER_SIZE + 12 + bit // 8] ^= 1 << bit % 8
    assert list(map(told, job.read())) == [
        [(4, b"abcd", b"0000", [(0, b"ijk\n")])],
        1,
        [(4, b"abcd", b"0002", [(2, b"ijk\n")])],
    ]


@pytest.mark.parametrize("at", [0, 5, 20, HEADER_SIZE, HEADER_SIZE + 2**20, LONG])
@pytest.mark.parametrize("number", [0, 1])
def test_a_long_frame_that_is_damaged_anywhere_is_noticed(job: Job, number: int, at: int) -> None:
    for mini_batch in range(2):
        job.add(mini_batch, b"s", bytes(LONG))
    job.blocks["0"][job.places[number][1] + at] ^= 1
    assert [told(found) == found_number for found_number, found in enumerate(job.read())] == [number == 0, number == 1]


@pytest.mark.parametrize("length", [1, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 5, LONG])
def test_what_a_segment_no_longer_has_is_damaged(job: Job, length: int) -> None:
    job.add(0, b"s", b"whole")
    job.add(1, b"s", bytes(LONG) if length == LONG else b"cut off")
    job.add(2, b"s", b"elsewhere", segment="1")
    job.add(3, b"s", b"gone", segment="2")
    del job.blocks["0"][job.places[1][1] + length :]
    del job.blocks["2"]
    assert list(map(told, job.read())) == [[(5, b"s", b"whole", [])], 1, [(9, b"s", b"elsewhere", [])], 3]


@pytest.mark.parametrize("body", [b"body", bytes(LONG)])
def test_a_frame_of_another_attempt_mini_batch_or_length_is_damaged(job: Job, body: bytes) -> None:
    job.add(0, b"s", body)
    segment, offset, length, mini_batch, attempt_id = job.places[0]
    job.places = [
        (segment, offset, length, mini_batch, attempt_id + 1),
        (segment, offset, length, mini_batch + 1, attempt_id),
        (segment, offset, length - 1, mini_batch, attempt_id),
        (segment, offset + 1, length, mini_batch, attempt_id),
        (segment, offset, 3, mini_batch, attempt_id),
    ]
    assert list(map(told, job.read())) == [0, 1, 0, 0, 0]
