"""What a commit is told, and the lines of its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchmesh.errors import CutOff
from batchmesh.storage.report import FailedItems
from batchmesh.storage.spool import Spool
from batchmesh.v1 import segment_pb2, storage_pb2

if TYPE_CHECKING:
    from pathlib import Path


LAST = storage_pb2.CommitOutputRequest(complete=True)


def places(segment: str, *offsets: int) -> storage_pb2.CommitOutputRequest:
    count = len(offsets)
    columns = segment_pb2.Places(
        segments=["unused", segment], segment=[1] * count, offset=offsets, length=[5] * count,
        mini_batch=range(count), attempt_id=[9] * count,
    )  # fmt: skip
    return storage_pb2.CommitOutputRequest(places=columns)


def test_places_keep_their_order_and_their_segments_over_requests(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add(places("a", *range(5000)))
    spool.add(places("b", 7, 8))
    spool.add(places("a", 1))
    spool.add(LAST)
    spool.complete()
    rows = [row for chunk in spool.places() for row in chunk]
    named = [(spool.segments()[row[0]], row[1]) for row in rows]
    assert named == [*(("a", n) for n in range(5000)), ("b", 7), ("b", 8), ("a", 1)]
    spool.discard()
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(
    "request_",
    [
        storage_pb2.CommitOutputRequest(places=segment_pb2.Places(segments=["s"], segment=[0], offset=[1, 2])),
        storage_pb2.CommitOutputRequest(failed_mini_batch=[1]),
    ],
)
def test_columns_of_different_lengths_are_an_error(tmp_path: Path, request_: storage_pb2.CommitOutputRequest) -> None:
    spool = Spool(tmp_path / "spool")
    with pytest.raises(ValueError, match=r"lengths|shorter"):
        spool.add(request_)
    spool.discard()


def test_lines_of_whole_mini_batches_stand_between_those_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "failed"
    failed = FailedItems(path, iter([(1, b"1\n"), (3, b"3\n"), (9, b"9\n")]))
    for mini_batch in (0, 2, 3):
        failed.add(mini_batch, f"f{mini_batch}\n".encode())
    failed.complete()
    assert path.read_text().split() == ["f0", "1", "f2", "f3", "3", "9"]


def test_no_failure_leaves_no_file(tmp_path: Path) -> None:
    FailedItems(tmp_path / "failed", iter([])).complete()
    assert not (tmp_path / "failed").exists()


def test_a_commit_without_its_last_request_was_cut_off(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add(places("a", 1))
    with pytest.raises(CutOff):
        spool.complete()
    spool.discard()


def test_parts_of_one_mini_batch_keep_their_order_in_places_and_lines(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    parts = places("a", 30, 10, 20)
    parts.places.mini_batch[:] = [1, 1, 2]
    parts.failed_mini_batch.extend([2, 1, 1])
    parts.failed_lines.extend([b"2", b"1 first", b"1 second"])
    spool.add(parts)
    spool.add(LAST)
    spool.complete()
    rows = [row for chunk in spool.places() for row in chunk]
    assert [(row[1], row[3]) for row in rows] == [(30, 1), (10, 1), (20, 2)]
    failed = FailedItems(tmp_path / "failed", spool.failed())
    for mini_batch, lines in ((1, b"1 of a good part\n"), (1, b"1 of the next\n"), (2, b"2 of a good part\n")):
        failed.add(mini_batch, lines)
    failed.complete()
    assert (tmp_path / "failed").read_text().splitlines() == [
        "1 of a good part", "1 of the next", "1 first", "1 second", "2 of a good part", "2",
    ]  # fmt: skip
    spool.discard()
