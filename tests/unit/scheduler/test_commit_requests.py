"""What a CommitOutput stream says, whichever way its rows were read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from batchmesh.data.slices import encode_slice
from batchmesh.scheduler import tables
from batchmesh.scheduler.commit_requests import commit_requests
from batchmesh.scheduler.store import Store
from batchmesh.v1 import job_pb2, storage_pb2
from tests.unit.scheduler.database import ITEMS, add_job, add_plan, part, whole, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh.scheduler.tables import JobRow

FILES = encode_slice({"kind": "files", "files": [f"/in/{letter}" for letter in "abcdefgh"]})
RAISED = job_pb2.Failure(kind=job_pb2.Failure.KIND_RUN_RAISED, message="no way").SerializeToString()
TRIES = 3
Said = storage_pb2.CommitOutputRequest
Processed = storage_pb2.ProcessedMiniBatches


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def said(store: Store, row: JobRow) -> list[Said]:
    async def all_of_it() -> list[Said]:
        header = storage_pb2.CommitHeader(job_id=row.job_id)
        return [request async for request in commit_requests(store, row.number, TRIES, header)]

    return asyncio.run(all_of_it())


def places(requests: list[Said]) -> list[tuple[int, str, int, int, int]]:
    """Mini-batch, segment, offset, length and attempt of each."""
    return [
        (index, each.places.segments[segment], offset, length, attempt)
        for each in requests
        for index, segment, offset, length, attempt in zip(
            each.places.mini_batch, each.places.segment, each.places.offset, each.places.length,
            each.places.attempt_id, strict=True,
        )
    ]  # fmt: skip


def statuses(requests: list[Said]) -> list[tuple[int, int]]:
    pairs = [zip(each.processed.mini_batch, each.processed.status, strict=True) for each in requests]
    return [pair for each in pairs for pair in each]


def test_mini_batches_that_succeeded_are_told_with_their_places(store: Store) -> None:
    row = add_job(store)
    add_plan(store, row, 3, FILES)
    outcomes = [whole(row, index)._replace(offset=100 * index, attempt=7 + index) for index in range(3)]
    write(store, *outcomes[:2], outcomes[2]._replace(segment="other", node="far", process=4))
    first, *rest, last = said(store, row)
    assert (first.header.job_id, last.complete) == (row.job_id, True)
    assert places(rest) == [(0, "segment", 0, 100, 7), (1, "segment", 100, 100, 8), (2, "other", 200, 100, 9)]
    (told,) = [each.processed for each in rest]
    assert [told.nodes[number] for number in told.node] == ["node", "node", "far"]
    assert (list(told.tries), list(told.process), list(told.started_us)) == ([1] * 3, [0, 0, 4], [1] * 3)
    assert (list(told.total_items), list(told.succeeded_items), list(told.failed_items)) == (
        [ITEMS] * 3,
        [8] * 3,
        [0] * 3,
    )
    assert (list(told.elapsed_us), list(told.run_us), list(told.error)) == ([3] * 3, [2] * 3, [])
    assert statuses(rest) == [(index, Processed.STATUS_SUCCEEDED) for index in range(3)]


def test_one_without_a_frame_has_no_place(store: Store) -> None:
    row = add_job(store)
    add_plan(store, row, 2, FILES)
    write(store, whole(row, 0)._replace(length=0, segment=""), whole(row, 1))
    requests = said(store, row)
    assert [index for index, *_ in places(requests)] == [1]
    assert [index for index, _ in statuses(requests)] == [0, 1]


def test_a_job_of_which_no_mini_batch_has_a_frame_has_no_places(store: Store) -> None:
    row = add_job(store)
    add_plan(store, row, 2, FILES)
    write(store, *[whole(row, index)._replace(length=0, segment="") for index in range(2)])
    requests = said(store, row)
    assert (places(requests), len(statuses(requests))) == ([], 2)


def test_what_failed_or_was_split_stands_in_its_order_between_the_others(store: Store) -> None:
    row = add_job(store)
    add_plan(store, row, 5, FILES)
    parts = (part(row, 3, 0, 4, 1, 2), part(row, 3, 4, 4, 1, 2))
    write(store, whole(row, 0), whole(row, 1, RAISED, tries=TRIES), whole(row, 2), *parts, whole(row, 4))
    requests = said(store, row)
    good, bad = Processed.STATUS_SUCCEEDED, Processed.STATUS_FAILED
    assert statuses(requests) == [(0, good), (1, bad), (2, good), (3, good), (4, good)]
    assert [index for index, *_ in places(requests)] == [0, 2, 3, 3, 4]
    assert [list(each.processed.error) for each in requests if each.processed.error] == [["no way", "", "", ""]]
    assert {index for each in requests for index in each.failed_mini_batch} == {1}


def test_a_file_that_could_not_be_read_is_told_although_all_others_succeeded(store: Store) -> None:
    row = add_job(store)
    unreadable = job_pb2.Failure(kind=job_pb2.Failure.KIND_UNREADABLE_FILE, message="bad").SerializeToString()
    row.planned, row.unreadable = 3, 1
    payload = encode_slice({"kind": "csv", "file": "/in/t.csv"})
    rows = [(row.number, index, ITEMS, 0, payload, unreadable if index == 1 else None) for index in range(3)]
    store.write(tables.add_plan(row, rows, [])).result()
    write(store, whole(row, 0), whole(row, 2))
    requests = said(store, row)
    assert [status for _, status in statuses(requests)] == [
        *(Processed.STATUS_SUCCEEDED, Processed.STATUS_FAILED, Processed.STATUS_SUCCEEDED)
    ]


def test_no_request_is_large_however_many_failed(store: Store) -> None:
    row, count = add_job(store), 300
    add_plan(store, row, count, FILES)
    long = job_pb2.Failure(kind=job_pb2.Failure.KIND_RUN_RAISED, message="x" * 20_000).SerializeToString()
    write(store, *[whole(row, index, long, tries=TRIES) for index in range(count)])
    requests = said(store, row)
    assert max(each.ByteSize() for each in requests) < 1.5 * 2**20
    assert len(statuses(requests)) == count
