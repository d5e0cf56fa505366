"""What a commit is told, and the lines of its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchmesh.storage.report import FailedItems
from batchmesh.storage.spool import PLACE, Spool
from batchmesh.v1 import segment_pb2, storage_pb2

if TYPE_CHECKING:
    from pathlib import Path


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
    spool.complete()
    rows = [row for chunk in spool.places() for row in chunk.tolist()]
    named = [(spool.segments()[row[0]], row[1]) for row in rows]
    assert named == [*(("a", n) for n in range(5000)), ("b", 7), ("b", 8), ("a", 1)]
    assert PLACE.itemsize == 36
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
    with pytest.raises(ValueError, match=r"shape|shorter"):
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
