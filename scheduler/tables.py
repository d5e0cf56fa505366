"""What is asked of and written to the database: jobs, their plans, their outcomes. One function a question.

A mini-batch is settled when the rows of its outcomes make up all of its items, and none of them has failed without
being final. The rows of a mini-batch that is being split may overlap until then: a part's row takes the place of the
row of the part that it was split from where both begin at the same item.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from .isolation import PartRow
from .model import FINAL, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .store import Database, Statement

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
    #: As it was submitted, whatever a resume has changed in `spec` since.
    submitted_spec: bytes
    workspace: str = "default"
    pipeline_run: str = ""
    experiment: str = ""
    #: It has been set in motion; until then it waits for others, is checked, or looks for an output to reuse.
    let_in: int = 1
    #: As in Job of job.proto.
    reused_from: str = ""
    not_reused: str = ""

    @property
    def life(self) -> int:
        """Tells the job from others of its id, before or after it, and from itself before it was resumed."""
        return int(self.submitted * 1e6) + self.round


_JOB = ", ".join(field.name for field in fields(JobRow))
#: Columns of jobs that change with a job's state.
_WITH_STATE = (
    *("spec", "state", "round", "started", "ended", "cancelled", "error", "first_failure", "progress"),
    *("output_path", "report_path", "input_kind", "let_in", "reused_from", "not_reused"),
)


class OutcomeRow(NamedTuple):
    """A row of outcomes: what became of a mini-batch, or of one part of it.

    `tries` as in MiniBatch, this one included; `level` and `runs` are 0 for the whole. A failure is `final` when
    nothing more is to come of it.
    """

    job: int
    idx: int
    first: int
    items: int
    level: int
    runs: int
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
    final: bool


class Labels(NamedTuple):
    """What jobs are listed by."""

    workspace: str = "default"
    pipeline_run: str = ""
    experiment: str = ""


_UNLABELLED, _ANY = Labels(), Labels(workspace="")

# ---- jobs ----


def add_job(
    job_id: str,
    spec: bytes,
    input_kind: int,
    submitted: float,
    labels: Labels = _UNLABELLED,
    after: Sequence[str] | None = None,
) -> list[Statement]:
    """`after`: ids of the jobs that it comes after; None for a job that is set in motion at once."""
    sql = (
        "INSERT INTO jobs (job_id, spec, submitted_spec, state, input_kind, submitted, workspace, pipeline_run, "
        "experiment, let_in) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    state = State.WAITING if after else State.PENDING
    values = (job_id, spec, spec, int(state), input_kind, submitted, *labels, int(after is None))
    edge = "INSERT INTO predecessors SELECT number, ? FROM jobs WHERE job_id = ?"
    return [(sql, [values]), (edge, [(each, job_id) for each in sorted(set(after or ()))])]


def set_state(row: JobRow) -> list[Statement]:
    """All that changes with a job's state, at once."""
    columns = ", ".join(f"{name}=?" for name in _WITH_STATE)
    values = (*(getattr(row, name) for name in _WITH_STATE), row.number)
    return [(f"UPDATE jobs SET {columns} WHERE number=?", [values])]


def cancel(number: int) -> list[Statement]:
    """The job is to be cancelled, whenever the scheduler comes to it."""
    return [("UPDATE jobs SET cancelled = 1 WHERE number = ?", [(number,)])]


def find_job(db: Database, job_id: str) -> JobRow | None:
    row = db.execute(f"SELECT {_JOB} FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return JobRow(*row) if row else None


def list_jobs(db: Database, before: int, count: int, labels: Labels = _ANY) -> list[JobRow]:
    """The newest `count` jobs with a number below `before` and these labels, of which empty ones ask for nothing."""
    wanted = {name: value for name, value in labels._asdict().items() if value}
    where = "".join(f" AND {name} = ?" for name in wanted)
    sql = f"SELECT {_JOB} FROM jobs WHERE number < ?{where} ORDER BY number DESC LIMIT ?"
    return [JobRow(*row) for row in db.execute(sql, (before, *wanted.values(), count))]


def unfinished_jobs(db: Database) -> list[JobRow]:
    rows = db.execute(f"SELECT {_JOB} FROM jobs WHERE state NOT IN ({_FINAL}) ORDER BY number")
    return [JobRow(*row) for row in rows]


def delete_job(number: int) -> list[Statement]:
    tables = ("mini_batches", "outcomes", "files_without_rows", "serving", "predecessors", "reuse")
    statements: list[Statement] = [(f"DELETE FROM {table} WHERE job = ?", [(number,)]) for table in tables]
    return [*statements, ("DELETE FROM jobs WHERE number = ?", [(number,)])]


# ---- the nodes that serve a job ----


def add_serving(number: int, node_id: str) -> list[Statement]:
    return [("INSERT INTO serving (job, node) VALUES (?, ?) ON CONFLICT DO NOTHING", [(number, node_id)])]


def forget_node(node_id: str) -> list[Statement]:
    """It is lost: nobody need wait for what it holds."""
    return [("DELETE FROM serving WHERE node = ?", [(node_id,)])]


def forget_serving(number: int) -> list[Statement]:
    return [("DELETE FROM serving WHERE job = ?", [(number,)])]


def serving(db: Database, number: int) -> frozenset[str]:
    """The nodes that may hold attempts of the job."""
    return frozenset(node for (node,) in db.execute("SELECT node FROM serving WHERE job = ?", (number,)))


# ---- the plan ----


class PlannedRow(NamedTuple):
    """A mini-batch of the plan. `rows` are what is known of it while it is not settled: its parts, or its last try,
    which was that `attempt`."""

    idx: int
    items: int
    affinity: int
    payload: bytes
    rows: tuple[PartRow, ...] = ()
    attempt: int = 0


_PLANNED = "SELECT m.idx, m.items, m.affinity, m.payload FROM mini_batches m WHERE m.job = ? "
_UNSETTLED = (
    "AND m.failure IS NULL AND m.items > coalesce((SELECT sum(o.items) FROM outcomes o "
    "WHERE o.job = m.job AND o.idx = m.idx AND (o.failure IS NULL OR o.final = 1)), 0) "
)


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


def next_planned(db: Database, number: int, after: int, count: int) -> list[PlannedRow]:
    """The next mini-batches from index `after` on that are not settled."""
    begun = db.execute("SELECT 1 FROM outcomes WHERE job = ? AND idx >= ? LIMIT 1", (number, after)).fetchone()
    if begun is None:  # nearly always: the plan is read in order, and nothing behind `after` has run
        fresh = f"{_PLANNED} AND m.idx >= ? AND m.failure IS NULL ORDER BY m.idx LIMIT ?"
        return [PlannedRow(*row) for row in db.execute(fresh, (number, after, count))]
    sql = f"{_PLANNED} AND m.idx >= ? {_UNSETTLED} ORDER BY m.idx LIMIT ?"
    return _with_rows(db, number, db.execute(sql, (number, after, count)).fetchall())


def unsettled(db: Database, number: int, indexes: Sequence[int]) -> list[PlannedRow]:
    """Those of these mini-batches that are not settled."""
    sql = f"{_PLANNED} AND m.idx = ? {_UNSETTLED}"
    return _with_rows(db, number, [row for index in indexes for row in db.execute(sql, (number, index))])


def planned(db: Database, number: int, indexes: Sequence[int]) -> list[PlannedRow]:
    """These mini-batches, whatever has become of them."""
    sql = f"{_PLANNED} AND m.idx = ?"
    return [PlannedRow(*row) for index in indexes for row in db.execute(sql, (number, index))]


def _with_rows(db: Database, number: int, found: list[tuple[int, int, int, bytes]]) -> list[PlannedRow]:
    rows: dict[int, list[PartRow]] = {}
    attempts: dict[int, int] = {}
    if found:
        low, high = min(row[0] for row in found), max(row[0] for row in found)
        for index, attempt, failed, *columns in db.execute(_ROWS, (number, low, high)):
            first, items, level, runs, tries, *counts = columns
            rows.setdefault(index, []).append(PartRow(first, items, level, runs, tries, bool(failed), *counts))
            attempts[index] = max(attempt, attempts.get(index, 0))
    return [PlannedRow(*row, tuple(rows.get(row[0], ())), attempts.get(row[0], 0)) for row in found]


_ROWS = (
    "SELECT idx, attempt, CASE WHEN failure IS NULL OR final = 1 THEN 0 ELSE 1 END, first, items, level, runs, tries, "
    "succeeded, failed, rows FROM outcomes WHERE job = ? AND idx BETWEEN ? AND ? "
    "AND (level > 0 OR (failure IS NOT NULL AND final = 0)) ORDER BY idx, first"
)


def files_without_rows(db: Database, number: int) -> list[str]:
    rows = db.execute("SELECT path FROM files_without_rows WHERE job = ?", (number,))
    return [path for (path,) in rows]


def unreadable(db: Database, number: int) -> int:
    """How many mini-batches were planned for a file that cannot be read, and have no outcome."""
    (count,) = db.execute("SELECT unreadable FROM jobs WHERE number = ?", (number,)).fetchone()
    return int(count)


# ---- outcomes ----

_VALUES = ", ".join(f"?{number}" for number, _ in enumerate(OutcomeRow._fields, 1))
#: Two attempts at one mini-batch may fail at once: neither row then knows of the other, and both are tries.
_TRIES = (
    "tries = CASE WHEN outcomes.level = excluded.level AND outcomes.attempt <> excluded.attempt "
    "AND outcomes.tries >= excluded.tries THEN outcomes.tries + 1 ELSE excluded.tries END"
)
_ANEW = ", ".join([_TRIES, *(f"{name} = excluded.{name}" for name in OutcomeRow._fields[3:] if name != "tries")])


def _instead(first: str, items: str, level: str) -> str:
    """Of a row of ?1 job and ?2 mini-batch: others that stand for items of it instead."""
    return (
        f"SELECT 1 FROM outcomes WHERE job = ?1 AND idx = ?2 AND first <> {first} AND first < {first} + {items} "
        f"AND first + items > {first} AND (failure IS NULL OR level > {level})"
    )


def _or_anew(instead: str) -> str:
    return (
        f"ON CONFLICT (job, idx, first) DO UPDATE SET {_ANEW} "
        f"WHERE outcomes.failure IS NOT NULL AND outcomes.level <= excluded.level AND NOT EXISTS ({instead})"
    )


_INSTEAD = _instead("?3", "?4", "?5")
_ADD_WHOLE = f"INSERT INTO outcomes VALUES ({_VALUES}) {_or_anew(_INSTEAD)}"
_ADD_PART = f"INSERT INTO outcomes SELECT {_VALUES} WHERE NOT EXISTS ({_INSTEAD}) {_or_anew(_INSTEAD)}"

#: The outcome of a whole mini-batch that succeeded: job, idx, items, tries, attempt, segment, offset, length, rows,
#: succeeded, failed, node, process, started_us, run_us, elapsed_us. The database takes bare tuples twice as fast.
Success = tuple[int, int, int, int, int, str, int, int, int, int, int, str, int, int, int, int]
_ADD_SUCCESS = (
    "INSERT INTO outcomes VALUES "
    "(?1, ?2, 0, ?3, 0, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, NULL, 1) "
    + _or_anew(_instead("0", "?3", "0"))
)


def add_outcomes(rows: Sequence[OutcomeRow]) -> list[Statement]:
    """The last outcome of each mini-batch or part stands; nothing takes the place of a success, or of a later level.

    So no item is ever in two rows that count, whatever is told how late. A mini-batch that was split has a row at its
    first item (unless `reopen_failed` took it, when nothing was out), so that only parts need a look at the others.
    """
    parts = [row for row in rows if row.level]
    if not parts:
        return [(_ADD_WHOLE, rows)]
    return [(_ADD_WHOLE, [row for row in rows if not row.level]), (_ADD_PART, parts)]


def add_successes(rows: Sequence[Success]) -> list[Statement]:
    """As add_outcomes, of nearly all that ever comes."""
    return [(_ADD_SUCCESS, rows)] if rows else []


def seal(number: int, indexes: Sequence[int]) -> list[Statement]:
    """What has failed of these mini-batches is final."""
    sql = "UPDATE outcomes SET final = 1 WHERE job = ? AND idx = ? AND failure IS NOT NULL"
    return [(sql, [(number, index) for index in indexes])]


def reopen(number: int, indexes: Sequence[int]) -> list[Statement]:
    """Forgets all outcomes of these mini-batches."""
    return [("DELETE FROM outcomes WHERE job = ? AND idx = ?", [(number, index) for index in indexes])]


def reopen_failed(number: int) -> list[Statement]:
    """Forgets each outcome with failed items, so that they run again: of a mini-batch that was split only those parts,
    for which it gets its whole budget of extra runs once more."""
    anew = (
        "UPDATE outcomes SET runs = 0 WHERE job = ? AND runs > 0 AND EXISTS (SELECT 1 FROM outcomes AS bad "
        "WHERE bad.job = outcomes.job AND bad.idx = outcomes.idx AND (bad.failure IS NOT NULL OR bad.failed > 0))"
    )
    forget = "DELETE FROM outcomes WHERE job = ? AND (failure IS NOT NULL OR failed > 0)"
    return [(anew, [(number,)]), (forget, [(number,)])]


def first_failure(db: Database, number: int) -> bytes | None:
    """The oldest failure of an attempt that is still on record."""
    sql = "SELECT failure FROM outcomes WHERE job = ? AND failure IS NOT NULL ORDER BY attempt LIMIT 1"
    row = db.execute(sql, (number,)).fetchone()
    return row[0] if row else None
