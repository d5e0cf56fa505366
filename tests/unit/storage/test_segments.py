"""Segment files and the thread that writes them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmesh.errors import Gap, StorageBusy
from batchmesh.segment import encode_frame
from batchmesh.storage.places import Places
from batchmesh.storage.segments import Segment, Segments

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = [encode_frame(n, n, b"schema", b"x" * n * 50, b"", 1) for n in range(6)]
WHOLE = b"".join(FRAMES)
ENDS = [sum(map(len, FRAMES[: n + 1])) for n in range(6)]


def opened(tmp_path_factory: pytest.TempPathFactory, content: bytes = b"") -> Segment:
    path = tmp_path_factory.mktemp("root") / "jobs" / "j" / "segments" / "s"
    if content:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return Segment(path)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)), st.booleans()), max_size=20))
def test_blocks_in_any_overlap_give_the_bytes_once(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[int, int, bool]]
) -> None:
    segment, size = opened(tmp_path_factory), 0
    for begin, end, sync in blocks:
        if begin > size:
            with pytest.raises(Gap):
                segment.append(begin, WHOLE[begin:end])
            continue
        size = max(size, end) if end > begin else size
        assert segment.append(begin, WHOLE[begin:end]) == segment.size == size
        if sync:
            segment.sync()
    segment.close()
    assert segment.path.read_bytes() == WHOLE[:size]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(WHOLE)), st.binary(max_size=len(FRAMES[5])))
def test_whatever_lies_behind_what_the_sender_was_told_is_written_over(
    tmp_path_factory: pytest.TempPathFactory, acknowledged: int, torn: bytes
) -> None:
    segment = opened(tmp_path_factory, (WHOLE[:acknowledged] + torn)[: len(WHOLE)])
    assert segment.append(acknowledged, WHOLE[acknowledged:]) == len(WHOLE)
    segment.sync()
    segment.close()
    assert segment.path.read_bytes() == WHOLE


def test_a_whole_frame_of_a_killed_predecessor_is_not_taken_for_durable(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    damaged = WHOLE[: ENDS[2]] + bytes(len(FRAMES[3]))
    segment = opened(tmp_path_factory, damaged)
    segment.append(ENDS[2], FRAMES[3])
    assert segment.path.read_bytes() == WHOLE[: ENDS[3]]
    segment.close()


def test_a_block_that_comes_late_from_a_stream_of_before_takes_nothing_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    segment = opened(tmp_path_factory, WHOLE[: ENDS[3]])
    segment.append(0, FRAMES[0])
    segment.sync()
    assert segment.append(ENDS[3], WHOLE[ENDS[3] :]) == len(WHOLE)
    segment.sync()
    assert segment.append(ENDS[0], FRAMES[1]) == len(WHOLE)
    segment.close()
    assert segment.path.read_bytes() == WHOLE


def test_what_fails_on_one_stream_leaves_the_others_alone(tmp_path: Path) -> None:
    async def write() -> tuple[int, BaseException | None, int]:
        segments = Segments(Places(tmp_path), 0, 2**20)
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
        segments = Segments(Places(tmp_path), 0, 2**20)
        await segments.append("j", "s", 0, b"abc")
        await segments.forget("j")
        (tmp_path / "jobs" / "j" / "segments" / "s").unlink()
        size = await segments.append("j", "s", 0, b"de")
        segments.release("j", "s")
        await segments.end()
        return size

    assert asyncio.run(write()) == 2


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="this system has no /dev/null")
def test_what_cannot_be_made_durable_is_not_acknowledged_and_its_segment_takes_nothing_more(tmp_path: Path) -> None:
    """A device takes every byte and refuses to sync: it stands in for a file whose disk fails."""
    folder = tmp_path / "jobs" / "j" / "segments"
    folder.mkdir(parents=True)
    (folder / "bad").symlink_to("/dev/null")

    async def write() -> list[int | BaseException]:
        segments = Segments(Places(tmp_path), 0, 2**20)
        first = segments.append("j", "bad", 0, WHOLE), segments.append("j", "good", 0, WHOLE)
        told = list(await asyncio.gather(*first, return_exceptions=True))
        segments.release("j", "bad")
        again = segments.append("j", "bad", 0, WHOLE), segments.append("j", "bad.2", 0, WHOLE)
        told += await asyncio.gather(*again, return_exceptions=True)
        await segments.end()
        return told

    failed, good, still_failed, next_one = asyncio.run(write())
    assert isinstance(failed, Gap)
    assert isinstance(still_failed, Gap)
    assert "begin another" in str(still_failed)
    assert good == next_one == len(WHOLE)
    assert sorted(path.name for path in folder.iterdir()) == ["bad.2", "good"]


def test_blocks_that_wait_to_be_written_are_bounded(tmp_path: Path) -> None:
    async def write() -> int:
        segments = Segments(Places(tmp_path), 0.01, len(WHOLE) + 10)
        first = segments.append("j", "a", 0, WHOLE)
        with pytest.raises(StorageBusy):
            segments.append("j", "b", 0, WHOLE)
        await first
        size = await segments.append("j", "b", 0, WHOLE)
        await segments.end()
        return size

    assert asyncio.run(write()) == len(WHOLE)


def test_a_late_block_does_not_bring_a_deleted_job_back(tmp_path: Path) -> None:
    async def write() -> None:
        segments = Segments(Places(tmp_path), 0, 2**20)
        with pytest.raises(Gap):
            await segments.append("j", "s", 5, b"late")
        await segments.end()

    asyncio.run(write())
    assert not (tmp_path / "jobs").exists()
