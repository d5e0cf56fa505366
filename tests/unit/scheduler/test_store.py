"""The database: durable before told, one bad write costs no neighbour, and what is done is not run again."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING

import pytest

from batchmesh.scheduler import tables
from batchmesh.scheduler.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def job(store: Store, job_id: str = "job-1") -> tables.JobRow:
    store.write(tables.add_job(job_id, b"spec", 1, 100.0)).result()
    row: tables.JobRow = store.read(lambda db: tables.find_job(db, job_id)).result()
    return row


def plan(store: Store, row: tables.JobRow, count: int) -> None:
    rows = [(row.number, index, 10, 0, b"payload", None) for index in range(count)]
    row.planned, row.planned_items, row.planning_ended = count, 10 * count, 1
    store.write(tables.add_plan(row, rows, [])).result()


def outcome(row: tables.JobRow, index: int, failure: bytes | None = None, final: bool = True) -> tables.OutcomeRow:
    good = failure is None
    counts = (10 if good else 0, 8 if good else 0, 2 if good else 10)
    return (row.number, index, 1, 7, "segment", 0, 100, *counts, "node", 0, 1, 2, 3, failure, final)


def test_a_write_that_is_told_is_there_after_reopening(tmp_path: Path) -> None:
    store = Store(tmp_path)
    row = job(store)
    store.close()
    again = Store(tmp_path)
    found = again.read(lambda db: tables.find_job(db, "job-1")).result()
    again.close()
    assert found == row


def test_each_start_has_a_larger_number(store: Store) -> None:
    assert store.begin() < store.begin()


def test_a_bad_write_in_a_group_costs_only_itself(store: Store) -> None:
    row = job(store)
    writes = [store.write(tables.add_job(f"job-{number}", b"", 1, 1.0)) for number in (1, 2, 3)]
    with pytest.raises(sqlite3.IntegrityError):
        writes[0].result()
    assert [write.exception() for write in writes[1:]] == [None, None]
    assert store.read(lambda db: tables.find_job(db, "job-1")).result() == row


def test_what_is_done_is_not_fed_again_and_what_may_be_tried_again_is(store: Store) -> None:
    row = job(store)
    plan(store, row, 4)
    rows = [outcome(row, 0), outcome(row, 1, b"failure", final=False), outcome(row, 2, b"failure", final=True)]
    store.write(tables.add_outcomes(rows)).result()
    fed = store.read(lambda db: tables.next_planned(db, row.number, 0, 10)).result()
    assert [(index, tries) for index, _, _, _, tries in fed] == [(1, 1), (3, 0)]


def test_the_last_outcome_of_a_mini_batch_stands(store: Store) -> None:
    row = job(store)
    plan(store, row, 1)
    store.write(tables.add_outcomes([outcome(row, 0, b"failure", final=False)])).result()
    store.write(tables.add_outcomes([outcome(row, 0)])).result()
    counts = store.read(lambda db: tables.counted(db, "job-1")).result()
    assert (counts.succeeded_mini_batches, counts.failed_mini_batches) == (1, 0)


def test_counts_come_from_final_outcomes_alone(store: Store) -> None:
    row = job(store)
    plan(store, row, 3)
    rows = [outcome(row, 0), outcome(row, 1, b"failure", final=False), outcome(row, 2, b"failure")]
    store.write(tables.add_outcomes(rows)).result()
    counts = store.read(lambda db: tables.counted(db, "job-1")).result()
    assert counts.succeeded_items == 8
    assert counts.failed_items == 2 + 10
    assert counts.settled == 2


def test_a_resumed_job_runs_again_what_failed_and_nothing_else(store: Store) -> None:
    row = job(store)
    plan(store, row, 2)
    store.write(tables.add_outcomes([outcome(row, 0), outcome(row, 1, b"failure")])).result()
    store.write(tables.reopen_failed(row.number)).result()
    fed = store.read(lambda db: tables.next_planned(db, row.number, 0, 10)).result()
    assert [index for index, *_ in fed] == [1]


def test_a_deleted_job_leaves_no_row(store: Store) -> None:
    row = job(store)
    plan(store, row, 2)
    store.write(tables.add_outcomes([outcome(row, 0)])).result()
    store.write(tables.delete_job(row.number)).result()
    for table in ("jobs", "mini_batches", "outcomes", "files_without_rows"):
        assert store.read(partial(rows_in, table=table)).result() == 0


def rows_in(db: sqlite3.Connection, table: str) -> int:
    count: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return count
