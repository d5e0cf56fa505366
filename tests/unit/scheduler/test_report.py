"""What the report says of one mini-batch, whole or split."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.data.slices import encode_slice
from batchmesh.scheduler import tables
from batchmesh.scheduler.report import MiniBatchReport
from batchmesh.scheduler.report_rows import report_rows
from batchmesh.scheduler.store import Store
from batchmesh.v1 import job_pb2, storage_pb2
from tests.unit.scheduler.database import ITEMS, add_job, add_plan, part, whole, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh.scheduler.tables import OutcomeRow

FILES = encode_slice({"kind": "files", "files": [f"/in/{letter}" for letter in "abcdefgh"]})
TABLE = encode_slice({"kind": "csv", "file": "/in/t.csv", "row": 11, "rows": ITEMS})
RAISED = job_pb2.Failure(kind=job_pb2.Failure.KIND_RUN_RAISED, message="no\nway").SerializeToString()
FAILED, NOT_REACHED = (
    storage_pb2.ProcessedMiniBatches.STATUS_FAILED,
    storage_pb2.ProcessedMiniBatches.STATUS_NOT_REACHED,
)
TRIES = 3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def reported(store: Store, payload: bytes, *outcomes: OutcomeRow) -> MiniBatchReport:
    """Of the only mini-batch of job number 1."""
    row = add_job(store)
    add_plan(store, row, 1, payload)
    write(store, *outcomes)
    (rows,) = store.read(lambda db: report_rows(db, row.number, -1, 100)).result()
    return MiniBatchReport(rows, TRIES)


def job_row() -> Any:
    """Of the first job of a database, as far as outcomes need it."""
    return tables.JobRow(1, "job-1", b"", 2, 1, 0, 1.0, None, None, 0, None, None, None, 1, 8, 0, 1, None, "", "", b"")


ROW = job_row()
#: Item 5 is bad, the others are good.
SEARCHED = (
    part(ROW, 0, 0, 4, 1, 2),
    part(ROW, 0, 4, 1, 3, 6),
    part(ROW, 0, 5, 1, 4, 7, RAISED, final=True, tries=2),
    part(ROW, 0, 6, 2, 2, 4),
)


def lines(report: MiniBatchReport) -> list[dict[str, Any]]:
    return [json.loads(line) for line in report.failed_lines()]


def test_a_mini_batch_that_failed_whole_names_each_of_its_files(store: Store) -> None:
    report = reported(store, FILES, whole(ROW, 0, RAISED, tries=TRIES))
    assert [(line["item"], line["count"], line["tries"]) for line in lines(report)] == [
        (f"/in/{letter}", 1, TRIES) for letter in "abcdefgh"
    ]
    assert report.good == []
    row = report.processed()
    assert (row.status, row.error, row.tries, row.items, row.failed) == (FAILED, "no way", TRIES, 8, 8)


def test_a_bad_item_is_named_alone_and_the_good_ones_stand_in_one_row(store: Store) -> None:
    report = reported(store, FILES, *SEARCHED)
    assert [(line["item"], line["count"], line["tries"]) for line in lines(report)] == [("/in/f", 1, TRIES + 4)]
    assert [row.first for row in report.good] == [0, 4, 6]
    row = report.processed()
    assert (row.status, row.tries, row.items, row.succeeded, row.failed) == (
        *(FAILED, TRIES + 7),
        *(8, 7, 1),
    )
    assert row.elapsed_us == 4 * 3


def test_a_bad_row_of_a_table_is_named_by_its_number_in_the_file(store: Store) -> None:
    (line,) = lines(reported(store, TABLE, *SEARCHED))
    assert line["item"] == {"file": "/in/t.csv", "line": None, "row": 16, "column": None}
    assert (line["count"], line["slice"]) == (1, None)


def test_a_bad_row_beside_unreadable_ones_is_named_by_its_part(store: Store) -> None:
    report = reported(store, TABLE, part(ROW, 0, 0, 4, 1, 2, short=1), *SEARCHED[1:])
    (line,) = lines(report)
    assert (line["item"], line["slice"]["part"], line["slice"]["file"]) == (None, [5, 1], "/in/t.csv")


def test_parts_of_a_table_beyond_the_budget_are_named_with_their_size(store: Store) -> None:
    rows = (part(ROW, 0, 0, 4, 1, 2), part(ROW, 0, 4, 4, 1, 2, RAISED, final=True))
    (line,) = lines(reported(store, TABLE, *rows))
    assert (line["item"], line["slice"]["part"], line["count"]) == (None, [4, 4], 4)


def test_a_search_that_was_not_ended_counts_as_not_reached_and_its_frames_do_not_count(store: Store) -> None:
    rows = (whole(ROW, 0, RAISED, final=False, tries=TRIES), part(ROW, 0, 4, 4, 1, 2))
    report = reported(store, FILES, *rows)
    assert (report.good, lines(report)) == ([], [])
    row = report.processed()
    assert (row.status, row.succeeded, row.failed, row.items) == (NOT_REACHED, 0, 0, 8)


def test_a_file_that_could_not_be_read_is_named_without_a_try(store: Store) -> None:
    row = add_job(store)
    unreadable = job_pb2.Failure(kind=job_pb2.Failure.KIND_UNREADABLE_FILE, message="bad").SerializeToString()
    row.planned, row.unreadable = 1, 1
    payload = encode_slice({"kind": "csv", "file": "/in/t.csv"})
    store.write(tables.add_plan(row, [(row.number, 0, 1, 0, payload, unreadable)], [])).result()
    (rows,) = store.read(lambda db: report_rows(db, row.number, -1, 100)).result()
    report = MiniBatchReport(rows, TRIES)
    (line,) = lines(report)
    assert (line["item"], line["tries"], line["kind"]) == ("/in/t.csv", 0, "UNREADABLE_FILE")
    assert (report.processed().status, report.processed().failed, report.good) == (FAILED, 1, [])
