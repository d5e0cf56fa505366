"""What has become of a job's mini-batches, told from its outcomes in the database as the Machine counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import tables
from .isolation import restored
from .model import Counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .store import Database


def counted(db: Database, job_id: str, run_max_try: int) -> Counts:
    """What is planned and done of a job. Counted here, so that the report and its counts come from one place."""
    row = tables.find_job(db, job_id)
    assert row is not None, "a job that is counted is in the database"
    counts = Counts(
        planned_mini_batches=row.planned,
        planned_items=row.planned_items,
        planning_ended=bool(row.planning_ended),
        unreadable_mini_batches=row.unreadable,
        failed_items=row.unreadable,
    )
    _count_whole(db, row.number, counts)
    split = _count_split(db, row.number, counts)
    counts.retried_attempts += _tried_again(db, row.number, split, run_max_try)
    return counts


def _count_whole(db: Database, number: int, counts: Counts) -> None:
    """Mini-batches that were not split, and of which nothing more is to come."""
    sql = (
        "SELECT CASE WHEN failure IS NULL THEN 0 ELSE 1 END AS bad, count(*), sum(succeeded), sum(failed), sum(rows), "
        "sum(tries - 1) FROM outcomes WHERE job = ? AND level = 0 AND (failure IS NULL OR final = 1) GROUP BY bad"
    )
    for bad, count, succeeded, failed, rows, tries in db.execute(sql, (number,)):
        _add(counts, count, bool(bad), succeeded, failed, rows)
        counts.retried_attempts += tries


def _count_split(db: Database, number: int, counts: Counts) -> set[int]:
    """Mini-batches that were split, which count when all of their parts have ended; returns which they are."""
    sql = (
        "SELECT o.idx, m.items, sum(CASE WHEN o.failure IS NULL OR o.final = 1 THEN o.items ELSE 0 END), "
        "max(CASE WHEN o.failure IS NULL THEN 0 ELSE 1 END), sum(o.succeeded), sum(o.failed), sum(o.rows), max(o.runs) "
        "FROM outcomes o JOIN mini_batches m ON m.job = o.job AND m.idx = o.idx "
        "WHERE o.job = ? AND o.level > 0 GROUP BY o.idx, m.items"
    )
    split, half_way = set(), []
    for index, items, settled, bad, succeeded, failed, rows, runs in db.execute(sql, (number,)):
        split.add(index)
        if settled < items:
            half_way.append(index)
            continue
        _add(counts, 1, bool(bad), succeeded, failed, rows)
        counts.retried_attempts += runs
    for each in tables.unsettled(db, number, half_way):
        isolation = restored(each.idx, each.items, each.rows)
        counts.retried_attempts += max(0, isolation.runs - len(isolation.open))  # a search that begins anew has none
    return split


def _tried_again(db: Database, number: int, split: set[int], run_max_try: int) -> int:
    """Tries of whole mini-batches that another one followed or will follow; when it is split, all but the last."""
    sql = "SELECT idx, tries FROM outcomes WHERE job = ? AND level = 0 AND failure IS NOT NULL AND final = 0"
    found: list[tuple[int, int]] = db.execute(sql, (number,)).fetchall()
    tries = [min(tries, run_max_try - 1) for index, tries in found if index not in split]
    return sum(tries) + len(split) * (run_max_try - 1)


def _add(counts: Counts, count: int, bad: bool, succeeded: int, failed: int, rows: int) -> None:
    if bad:
        counts.failed_mini_batches += count
    else:
        counts.succeeded_mini_batches += count
    counts.succeeded_items += succeeded
    counts.failed_items += failed
    counts.rows += rows


def counted_of(db: Database, number: int, indexes: Sequence[int]) -> Counts:
    """What these settled mini-batches had counted."""
    sql = (
        "SELECT count(*), max(CASE WHEN failure IS NULL THEN 0 ELSE 1 END), sum(succeeded), sum(failed), sum(rows) "
        "FROM outcomes WHERE job = ? AND idx = ?"
    )
    counts = Counts()
    for index in indexes:
        count, bad, *sums = db.execute(sql, (number, index)).fetchone()
        if count:
            _add(counts, 1, bool(bad), *sums)
    return counts
