"""What is asked of and written to the database: jobs, their plans, their outcomes. One function a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .model import FINAL, Counts, State

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from .store import Statement

_FINAL = ",".join(str(int(state)) for state in sorted(FINAL))


@dataclass(slots=True)
class JobRow:
    """A row of jobs, column for column; blobs are serialized protos."""

    number: int
    job_id: str
    spec: bytes
    state: int
    input_kind: int
    round: int
    submitted: float
    started: float | None
    ended: float | None
    cancelled: int
    error: bytes | None
    first_failure: bytes | None
    progress: bytes | None
    planned: int
    planned_items: int
    unreadable: int
    planning_ended: int
    cursor: str | None
    output_path: str
    report_path: str


#: A row to insert into outcomes, in the order of its columns.
OutcomeRow = tuple[int, int, int, int, str, int, int, int, int, int, str, int, int, int, int, bytes | None, bool]

# ---- jobs ----


def add_job(job_id: str, spec: bytes, input_kind: int, submitted: float) -> list[Statement]:
    sql = "INSERT INTO jobs (job_id, spec, state, input_kind, submitted) VALUES (?, ?, ?, ?, ?)"
    return [(sql, [(job_id, spec, int(State.PENDING), input_kind, submitted)])]


def set_state(row: JobRow) -> list[Statement]:
    """All that changes with a job's state, at once."""
    sql = (
        "UPDATE jobs SET state=?, round=?, started=?, ended=?, cancelled=?, error=?, first_failure=?, progress=?, "
        "output_path=?, report_path=? WHERE number=?"
    )
    return [
        (
            sql,
            [
                (
                    row.state,
                    row.round,
                    row.started,
                    row.ended,
                    row.cancelled,
                    row.error,
                    row.first_failure,
                    row.progress,
                    row.output_path,
                    row.report_path,
                    row.number,
                )
            ],
        )
    ]


def find_job(db: sqlite3.Connection, job_id: str) -> JobRow | None:
    row = db.execute("SELECT * FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return JobRow(*row) if row else None


def list_jobs(db: sqlite3.Connection, before: int, count: int) -> list[JobRow]:
    """The newest `count` jobs whose number is below `before`."""
    rows = db.execute("SELECT * FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?", (before, count))
    return [JobRow(*row) for row in rows]


def unfinished_jobs(db: sqlite3.Connection) -> list[JobRow]:
    rows = db.execute(f"SELECT * FROM jobs WHERE state NOT IN ({_FINAL}) ORDER BY number")
    return [JobRow(*row) for row in rows]


def delete_job(number: int) -> list[Statement]:
    tables = ("mini_batches", "outcomes", "files_without_rows")
    statements: list[Statement] = [(f"DELETE FROM {table} WHERE job = ?", [(number,)]) for table in tables]
    return [*statements, ("DELETE FROM jobs WHERE number = ?", [(number,)])]


# ---- the plan ----


def add_plan(
    row: JobRow,
    mini_batches: Sequence[tuple[int, int, int, int, bytes, bytes | None]],
    files_without_rows: Sequence[str],
) -> list[Statement]:
    """Mini-batches as (job, index, items, affinity, payload, failure), and how far the plan has come, in one go."""
    progress = (row.planned, row.planned_items, row.unreadable, row.planning_ended, row.cursor, row.number)
    return [
        ("INSERT INTO mini_batches VALUES (?, ?, ?, ?, ?, ?)", mini_batches),
        ("INSERT INTO files_without_rows VALUES (?, ?)", [(row.number, path) for path in files_without_rows]),
        (
            "UPDATE jobs SET planned=?, planned_items=?, unreadable=?, planning_ended=?, cursor=? WHERE number=?",
            [progress],
        ),
    ]


def next_planned(db: sqlite3.Connection, number: int, after: int, count: int) -> list[tuple[int, int, int, bytes, int]]:
    """The next mini-batches to run, as (index, items, affinity, payload, tries so far); less those that are done."""
    sql = (
        "SELECT m.idx, m.items, m.affinity, m.payload, coalesce(o.tries, 0) FROM mini_batches m "
        "LEFT JOIN outcomes o ON o.job = m.job AND o.idx = m.idx "
        "WHERE m.job = ? AND m.idx >= ? AND m.failure IS NULL "
        "AND (o.idx IS NULL OR (o.failure IS NOT NULL AND NOT o.final)) ORDER BY m.idx LIMIT ?"
    )
    return db.execute(sql, (number, after, count)).fetchall()


def planned(db: sqlite3.Connection, number: int, indexes: Sequence[int]) -> list[tuple[int, int, int, bytes]]:
    """These mini-batches, as (index, items, affinity, payload)."""
    sql = "SELECT idx, items, affinity, payload FROM mini_batches WHERE job = ? AND idx = ?"
    return [row for index in indexes for row in db.execute(sql, (number, index))]


def files_without_rows(db: sqlite3.Connection, number: int) -> list[str]:
    rows = db.execute("SELECT path FROM files_without_rows WHERE job = ?", (number,))
    return [path for (path,) in rows]


# ---- outcomes ----


def add_outcomes(rows: Sequence[OutcomeRow]) -> list[Statement]:
    """The last outcome of each mini-batch stands."""
    return [("INSERT OR REPLACE INTO outcomes VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)]


def reopen_failed(number: int) -> list[Statement]:
    """Forgets the tries of what has failed, so that a resumed job runs it again."""
    return [("DELETE FROM outcomes WHERE job = ? AND failure IS NOT NULL", [(number,)])]


def reopen(number: int, indexes: Sequence[int]) -> list[Statement]:
    return [("DELETE FROM outcomes WHERE job = ? AND idx = ?", [(number, index) for index in indexes])]


def counted(db: sqlite3.Connection, job_id: str) -> Counts:
    """What is planned and done of a job. Counted here, so that the report and its counts come from one place."""
    row = find_job(db, job_id)
    assert row is not None, "a job that is counted is in the database"
    good = db.execute(
        "SELECT count(*), total(succeeded), total(failed), total(rows), total(tries - 1) FROM outcomes "
        "WHERE job = ? AND failure IS NULL",
        (row.number,),
    ).fetchone()
    bad = db.execute(
        "SELECT count(*), total(failed), total(tries - 1) FROM outcomes "
        "WHERE job = ? AND failure IS NOT NULL AND final",
        (row.number,),
    ).fetchone()
    return Counts(
        planned_mini_batches=row.planned,
        planned_items=row.planned_items,
        planning_ended=bool(row.planning_ended),
        succeeded_mini_batches=good[0],
        failed_mini_batches=bad[0],
        unreadable_mini_batches=row.unreadable,
        succeeded_items=int(good[1]),
        failed_items=int(good[2]) + int(bad[1]) + row.unreadable,
        rows=int(good[3]),
        retried_attempts=int(good[4]) + int(bad[2]),
    )


def counted_of(db: sqlite3.Connection, number: int, indexes: Sequence[int]) -> Counts:
    """What these succeeded mini-batches had counted."""
    counts = Counts()
    for index in indexes:
        sql = "SELECT succeeded, failed, rows FROM outcomes WHERE job = ? AND idx = ? AND failure IS NULL"
        for succeeded, failed, rows in db.execute(sql, (number, index)):
            counts.succeeded_mini_batches += 1
            counts.succeeded_items += succeeded
            counts.failed_items += failed
            counts.rows += rows
    return counts


@dataclass(frozen=True, slots=True)
class ReportRow:
    """What became of one mini-batch: its plan and its last outcome (attempt 0 where it was never run)."""

    index: int
    items: int
    payload: bytes
    planned_failure: bytes | None
    tries: int
    attempt: int
    segment: str
    offset: int
    length: int
    rows: int
    succeeded: int
    failed: int
    node: str
    process: int
    started_us: int
    run_us: int
    elapsed_us: int
    failure: bytes | None
    #: A failure after which no other try was to come.
    final: int


def report_rows(db: sqlite3.Connection, number: int, after: int, count: int) -> list[ReportRow]:
    """The next mini-batches in input order that ran, or that could not."""
    sql = (
        "SELECT m.idx, m.items, m.payload, m.failure, coalesce(o.tries,0), coalesce(o.attempt,0), "
        "coalesce(o.segment,''), coalesce(o.offset,0), coalesce(o.length,0), coalesce(o.rows,0), "
        "coalesce(o.succeeded,0), coalesce(o.failed,0), coalesce(o.node,''), coalesce(o.process,0), "
        "coalesce(o.started_us,0), coalesce(o.run_us,0), coalesce(o.elapsed_us,0), o.failure, coalesce(o.final,0) "
        "FROM mini_batches m LEFT JOIN outcomes o ON o.job = m.job AND o.idx = m.idx "
        "WHERE m.job = ? AND m.idx > ? AND (o.idx IS NOT NULL OR m.failure IS NOT NULL) ORDER BY m.idx LIMIT ?"
    )
    return [ReportRow(*row) for row in db.execute(sql, (number, after, count))]
