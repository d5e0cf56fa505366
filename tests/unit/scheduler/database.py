"""Jobs, plans and outcomes for a test's database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.scheduler import tables

if TYPE_CHECKING:
    from batchmesh.scheduler.store import Store
    from batchmesh.scheduler.tables import JobRow, OutcomeRow

#: Items of each mini-batch, unless a test says otherwise.
ITEMS = 8
FAILED = b"\x08\x01"


def add_job(store: Store, job_id: str = "job-1", spec: bytes = b"") -> JobRow:
    store.write(tables.add_job(job_id, spec, 1, 100.0)).result()
    row = store.read(lambda db: tables.find_job(db, job_id)).result()
    assert row is not None
    return row


def add_plan(store: Store, row: JobRow, count: int, payload: bytes = b"payload") -> None:
    """Plans `count` mini-batches, which end the plan."""
    first = row.planned
    rows = [(row.number, first + each, ITEMS, 0, payload, None) for each in range(count)]
    row.planned, row.planned_items, row.planning_ended = first + count, ITEMS * (first + count), 1
    store.write(tables.add_plan(row, rows, [])).result()


def whole(row: JobRow, index: int, failure: bytes | None = None, *, final: bool = True, tries: int = 1) -> OutcomeRow:
    """The outcome of a mini-batch: all of its items succeeded, or none."""
    return part(row, index, 0, ITEMS, 0, 0, failure, final=final, tries=tries)


def part(
    row: JobRow,
    index: int,
    first: int,
    items: int,
    level: int,
    runs: int,
    failure: bytes | None = None,
    *,
    final: bool = False,
    tries: int = 1,
    short: int = 0,
) -> OutcomeRow:
    """The outcome of a part; `short` of its items are missing in what run() returned."""
    good = failure is None
    counts = (items - short, items - short, short) if good else (0, 0, items)
    place = ("segment", 0, 100) if good else ("", 0, 0)
    which = (row.number, index, first, items, level, runs, tries)
    return tables.OutcomeRow(*which, 7, *place, *counts, "node", 0, 1, 2, 3, failure, good or final)


def write(store: Store, *rows: OutcomeRow) -> None:
    store.write(tables.add_outcomes(rows)).result()
