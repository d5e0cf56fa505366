"""The tables of the scheduler's database, and how those that an earlier version wrote become them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.errors import Refused

if TYPE_CHECKING:
    from .store import Database

#: Kept in the database; grows with each change of the tables.
VERSION = 2

#: A number is never used twice: what comes late of a job that was deleted is nobody's.
_JOBS = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL UNIQUE, spec BLOB NOT NULL, state INTEGER NOT NULL,
    input_kind INTEGER NOT NULL, round INTEGER NOT NULL DEFAULT 0,
    submitted REAL NOT NULL, started REAL, ended REAL, cancelled INTEGER NOT NULL DEFAULT 0,
    error BLOB, first_failure BLOB, progress BLOB,
    planned INTEGER NOT NULL DEFAULT 0, planned_items INTEGER NOT NULL DEFAULT 0,
    unreadable INTEGER NOT NULL DEFAULT 0, planning_ended INTEGER NOT NULL DEFAULT 0, cursor TEXT,
    output_path TEXT NOT NULL DEFAULT '', report_path TEXT NOT NULL DEFAULT '',
    submitted_spec BLOB NOT NULL DEFAULT x''
)
"""
_MINI_BATCHES = """
CREATE TABLE mini_batches (
    job INTEGER, idx INTEGER, items INTEGER NOT NULL, affinity INTEGER NOT NULL, payload BLOB NOT NULL, failure BLOB,
    PRIMARY KEY (job, idx)
) WITHOUT ROWID
"""
#: What has ended: a row for each mini-batch, or for each part of one that was split. `first` is the part's first item,
#: `level` and `runs` are those of the isolation (0 for the whole).
_OUTCOMES = """
CREATE TABLE outcomes (
    job INTEGER, idx INTEGER, first INTEGER, items INTEGER NOT NULL, level INTEGER NOT NULL, runs INTEGER NOT NULL,
    tries INTEGER NOT NULL, attempt INTEGER NOT NULL, segment TEXT NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL, rows INTEGER NOT NULL,
    succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, node TEXT NOT NULL, process INTEGER NOT NULL,
    started_us INTEGER NOT NULL, run_us INTEGER NOT NULL, elapsed_us INTEGER NOT NULL, failure BLOB,
    final INTEGER NOT NULL, PRIMARY KEY (job, idx, first)
) WITHOUT ROWID
"""
_FILES_WITHOUT_ROWS = "CREATE TABLE files_without_rows (job INTEGER, path TEXT NOT NULL)"
_FILES_INDEX = "CREATE INDEX files_without_rows_of_job ON files_without_rows (job)"
#: Nodes that a stream of the job was opened to, and that may hold attempts of it when the scheduler starts again.
_SERVING = "CREATE TABLE serving (job INTEGER, node TEXT NOT NULL, PRIMARY KEY (job, node)) WITHOUT ROWID"
_STARTS = "CREATE TABLE starts (epoch INTEGER PRIMARY KEY, at REAL NOT NULL)"
#: `target` is a ComputeTarget as it was asked for.
_COMPUTE_TARGETS = "CREATE TABLE compute_targets (name TEXT PRIMARY KEY, target BLOB NOT NULL, created REAL NOT NULL)"

#: Columns of jobs that came with version 2. `let_in`: it has been set in motion, and the Machine has heard of it.
_LABELS = tuple(
    f"ALTER TABLE jobs ADD COLUMN {column}"
    for column in (
        "workspace TEXT NOT NULL DEFAULT 'default'",
        "pipeline_run TEXT NOT NULL DEFAULT ''",
        "experiment TEXT NOT NULL DEFAULT ''",
        "let_in INTEGER NOT NULL DEFAULT 1",
        "reused_from TEXT NOT NULL DEFAULT ''",
        "not_reused TEXT NOT NULL DEFAULT ''",
    )
)
#: The jobs that a job comes after, by their ids: one may be deleted before the other.
_PREDECESSORS = """
CREATE TABLE predecessors (job INTEGER, predecessor TEXT NOT NULL, PRIMARY KEY (job, predecessor)) WITHOUT ROWID
"""
_SUCCESSORS = "CREATE INDEX successors ON predecessors (predecessor)"
#: What a job's output depends on, as far as it allows reuse: `parts` is JSON, `files` two hashes for each input file.
_REUSE = """
CREATE TABLE reuse (
    job INTEGER PRIMARY KEY, workspace TEXT NOT NULL, entry_script TEXT NOT NULL, step_name TEXT NOT NULL,
    key TEXT NOT NULL, parts TEXT NOT NULL, files BLOB
)
"""
_REUSE_INDEX = "CREATE INDEX reuse_of_script ON reuse (workspace, entry_script)"
_PIPELINES = (*_LABELS, _PREDECESSORS, _SUCCESSORS, _REUSE, _REUSE_INDEX)

_TABLES = (
    *(_STARTS, _JOBS, _MINI_BATCHES, _OUTCOMES, _FILES_WITHOUT_ROWS, _FILES_INDEX, _SERVING, _COMPUTE_TARGETS),
    *_PIPELINES,
)

_COPY_OUTCOMES = """
INSERT INTO outcomes SELECT o.job, o.idx, 0, m.items, 0, 0, o.tries, o.attempt, o.segment, o.offset, o.length, o.rows,
    o.succeeded, o.failed, o.node, o.process, o.started_us, o.run_us, o.elapsed_us, o.failure, o.final
FROM outcomes_0 o JOIN mini_batches m ON m.job = o.job AND m.idx = o.idx
"""
#: From the tables that had no version: parts had no rows of their own, and a resumed job kept its spec.
_FROM_0 = (
    "ALTER TABLE jobs RENAME TO jobs_0",
    _JOBS,
    "INSERT INTO jobs SELECT *, spec FROM jobs_0",
    "DROP TABLE jobs_0",
    "ALTER TABLE outcomes RENAME TO outcomes_0",
    _OUTCOMES,
    _COPY_OUTCOMES,
    "DROP TABLE outcomes_0",
    _SERVING,
)
#: From the tables of version 1: there were no compute targets, no pipelines, and nothing was reused.
_FROM_1 = (_COMPUTE_TARGETS, *_PIPELINES)


def prepare(db: Database) -> None:
    """Creates the tables, or brings those of an earlier version up to this one, all or nothing.

    Raises Refused for those of a later version.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    if version > VERSION:
        raise Refused(
            "The scheduler's database was written by a later batchmesh; start that one, or give another --state."
        )
    db.execute("BEGIN IMMEDIATE")
    for statement in _steps(db, version):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _steps(db: Database, version: int) -> tuple[str, ...]:
    if version == 0 and not _is_old(db):
        return _TABLES
    return (*_FROM_0, *_FROM_1) if version == 0 else _FROM_1


def _is_old(db: Database) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs'").fetchone() is not None
