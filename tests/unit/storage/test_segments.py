"""Segment files and the thread that writes them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmesh.errors import Gap
from batchmesh.segment import encode_frame
from batchmesh.storage.places import Places
from batchmesh.storage.segments import Segment, Segments, end_of_whole_frames

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = [encode_frame(n, n, b"schema", b"x" * n * 50, b"", 1) for n in range(6)]
WHOLE = b"".join(FRAMES)
ENDS = [sum(map(len, FRAMES[: n + 1])) for n in range(6)]


def end_in(tmp: Path, content: bytes) -> int:
    path = tmp / "segment"
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        return end_of_whole_frames(fd, len(content))
    finally:
        os.close(fd)


def test_the_end_of_whole_frames_is_the_last_one_before_any_cut(tmp_path: Path) -> None:
    for cut in range(len(WHOLE) + 1):
        assert end_in(tmp_path, WHOLE[:cut]) == max([0, *(end for end in ENDS if end <= cut)])


def test_zeros_after_a_power_cut_are_no_frames(tmp_path: Path) -> None:
    assert end_in(tmp_path, WHOLE + bytes(5000)) == len(WHOLE)
    assert end_in(tmp_path, WHOLE[: ENDS[3]] + bytes(len(FRAMES[4])) + FRAMES[5]) == ENDS[3]
    assert end_in(tmp_path, WHOLE[:-20] + bytes(20)) == ENDS[4]


def test_more_frames_than_one_read_holds_are_followed_to_the_end(tmp_path: Path) -> None:
    many = WHOLE * 2000
    assert end_in(tmp_path, many + b"torn") == len(many)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE))), max_size=20))
def test_blocks_in_any_overlap_give_the_bytes_once(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("segments") / "segment"
    segment, size = Segment(path), 0
    for begin, end in blocks:
        if begin > size:
            with pytest.raises(Gap):
                segment.append(begin, WHOLE[begin:end])
            continue
        segment.append(begin, WHOLE[begin:end])
        size = max(size, end) if end > begin else size
        assert segment.size == size
    segment.close()
    assert path.read_bytes() == WHOLE[:size]


@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_a_segment_opened_again_goes_on_where_its_sender_was_told(
    tmp_path_factory: pytest.TempPathFactory, acknowledged: int, on_disk: int
) -> None:
    acknowledged = min(acknowledged, on_disk)
    path = tmp_path_factory.mktemp("segments") / "segment"
    whole = max([0, *(end for end in ENDS if end <= on_disk)])
    # What lies past both the last whole frame and the acknowledgement may be anything.
    sure = max(whole, acknowledged)
    path.write_bytes(WHOLE[:sure] + bytes(on_disk - sure))
    segment = Segment(path)
    segment.append(acknowledged, WHOLE[acknowledged:])
    segment.close()
    assert path.read_bytes() == WHOLE


def test_what_fails_on_one_stream_leaves_the_others_alone(tmp_path: Path) -> None:
    async def write() -> tuple[int, BaseException | None, int]:
        segments = Segments(Places(tmp_path), 0)
        good, bad = segments.append("j", "good", 0, WHOLE), segments.append("j", "bad", 7, WHOLE)
        more = segments.append("j", "good", len(WHOLE), b"more")
        await asyncio.wait([good, bad, more])
        await segments.end()
        return good.result(), bad.exception(), more.result()

    first, error, second = asyncio.run(write())
    assert (first, second) == (len(WHOLE), len(WHOLE) + 4)
    assert isinstance(error, Gap)


def test_a_forgotten_job_begins_anew(tmp_path: Path) -> None:
    async def write() -> int:
        segments = Segments(Places(tmp_path), 0)
        await segments.append("j", "s", 0, b"abc")
        await segments.forget("j")
        (tmp_path / "jobs" / "j" / "segments" / "s").unlink()
        size = await segments.append("j", "s", 0, b"de")
        segments.release("j", "s")
        await segments.end()
        return size

    assert asyncio.run(write()) == 2
