"""Long frames beside short ones: what is assembled of them, and what is not when one is damaged."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from batchmesh.storage.assembly import Assembly, FramesDamagedError, Order, Prepared
from batchmesh.storage.frames import FrameReader
from batchmesh.storage.places import Places
from batchmesh.storage.spool import Spool
from tests.support.storage import Frames, pb

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["out.txt", "out.csv", "out.jsonl", "out.parquet"]
TEXT = "x" * 1000
SHORT, LONG = [{"a": 1, "b": "text"}], [{"a": number, "b": TEXT} for number in range(3000)]
#: It has another column, so that all others are written anew, but as text.
OTHER = [{"a": 1, "b": "text", "c": True}]


def frames_of(name: str, results: list[Any], failed: dict[int, bytes] | None = None) -> Frames:
    return Frames(*results, name=name, failed=failed)


def prepared(root: Path, name: str, frames: Frames, *, report_only: bool = False) -> Prepared:
    places, folder = Places(root), root / "output"
    segment = places.segment("j", "s")
    for each in (segment.parent, folder):
        each.mkdir(parents=True)
    segment.write_bytes(frames.blocks)
    spool = Spool(root / "spool")
    spool.add(pb.CommitOutputRequest(places=frames.places, complete=True))
    spool.complete()
    order = Order(folder, "j", "" if report_only else name, report_only, {})
    reader = FrameReader(places, "j", spool.segments())
    try:
        return Assembly(order, name, spool, reader).prepare()
    finally:
        reader.close()


def rows(root: Path, name: str) -> list[Any]:
    path = root / "output" / ".batchmesh-j-output"
    if name.endswith("parquet"):
        found: list[Any] = parquet.read_table(path).to_pylist()
        return found
    lines = path.read_text().splitlines()
    if name.endswith("csv"):
        return [{**row, "a": int(row["a"])} for row in csv.DictReader(lines)]
    return [json.loads(line.replace("'", '"').replace("True", "true")) for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_long_frames_stand_among_short_ones_in_their_order(tmp_path: Path, name: str) -> None:
    given = [LONG, SHORT, LONG, SHORT, SHORT, LONG]
    assert prepared(tmp_path, name, frames_of(name, given)).rows == 9003
    assert rows(tmp_path, name) == [row for result in given for row in result]


@pytest.mark.parametrize("name", NAMES)
def test_long_frames_are_written_anew_when_a_column_comes_behind_them(tmp_path: Path, name: str) -> None:
    given = [SHORT, LONG, LONG, OTHER]
    assert prepared(tmp_path, name, frames_of(name, given)).rows == 6002
    assert [(row["a"], row["b"]) for row in rows(tmp_path, name)] == [
        (row["a"], row["b"]) for result in given for row in result
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("given", [[LONG, LONG], [SHORT, LONG, SHORT, LONG], [SHORT, OTHER, LONG, LONG]])
def test_every_damaged_frame_is_named_whatever_was_written_before(tmp_path: Path, name: str, given: list[Any]) -> None:
    frames = frames_of(name, given)
    damaged = [number for number, result in enumerate(given) if result is LONG]
    blocks = bytearray(frames.blocks)
    for number in damaged:
        blocks[frames.places.offset[number] + 2_000_000] ^= 1
    frames.blocks = bytes(blocks)
    with pytest.raises(FramesDamagedError) as caught:
        prepared(tmp_path, name, frames)
    assert caught.value.mini_batches == damaged


def test_failed_lines_of_a_damaged_long_frame_are_not_reported(tmp_path: Path) -> None:
    frames = frames_of("out.txt", [SHORT, LONG, LONG], {1: b'"1"\n', 2: b'"2"\n'})
    blocks = bytearray(frames.blocks)
    blocks[frames.places.offset[1] + 2_000_000] ^= 1
    frames.blocks = bytes(blocks)
    assert prepared(tmp_path, "out.txt", frames, report_only=True).rows == 0
    report = tmp_path / "output" / ".batchmesh-j-report"
    assert (report / "failed_items.jsonl").read_text() == '"2"\n'
