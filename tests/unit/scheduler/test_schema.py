"""A database that an earlier version wrote becomes one of this version, and is then like a fresh one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from batchmesh.scheduler import after, schema, tables
from batchmesh.scheduler.model import State
from batchmesh.scheduler.store import Store

if TYPE_CHECKING:
    from pathlib import Path

#: The tables of version 1.
VERSION_1 = """
CREATE TABLE starts (epoch INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL UNIQUE, spec BLOB NOT NULL, state INTEGER NOT NULL,
    input_kind INTEGER NOT NULL, round INTEGER NOT NULL DEFAULT 0,
    submitted REAL NOT NULL, started REAL, ended REAL, cancelled INTEGER NOT NULL DEFAULT 0,
    error BLOB, first_failure BLOB, progress BLOB,
    planned INTEGER NOT NULL DEFAULT 0, planned_items INTEGER NOT NULL DEFAULT 0,
    unreadable INTEGER NOT NULL DEFAULT 0, planning_ended INTEGER NOT NULL DEFAULT 0, cursor TEXT,
    output_path TEXT NOT NULL DEFAULT '', report_path TEXT NOT NULL DEFAULT '',
    submitted_spec BLOB NOT NULL DEFAULT x''
);
CREATE TABLE mini_batches (
    job INTEGER, idx INTEGER, items INTEGER NOT NULL, affinity INTEGER NOT NULL, payload BLOB NOT NULL, failure BLOB,
    PRIMARY KEY (job, idx)
) WITHOUT ROWID;
CREATE TABLE outcomes (
    job INTEGER, idx INTEGER, first INTEGER, items INTEGER NOT NULL, level INTEGER NOT NULL, runs INTEGER NOT NULL,
    tries INTEGER NOT NULL, attempt INTEGER NOT NULL, segment TEXT NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL, rows INTEGER NOT NULL,
    succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, node TEXT NOT NULL, process INTEGER NOT NULL,
    started_us INTEGER NOT NULL, run_us INTEGER NOT NULL, elapsed_us INTEGER NOT NULL, failure BLOB,
    final INTEGER NOT NULL, PRIMARY KEY (job, idx, first)
) WITHOUT ROWID;
CREATE TABLE files_without_rows (job INTEGER, path TEXT NOT NULL);
CREATE INDEX files_without_rows_of_job ON files_without_rows (job);
CREATE TABLE serving (job INTEGER, node TEXT NOT NULL, PRIMARY KEY (job, node)) WITHOUT ROWID;
INSERT INTO jobs (job_id, spec, state, input_kind, submitted, progress) VALUES ('old', x'', 2, 1, 5.0, x'01');
INSERT INTO mini_batches VALUES (1, 0, 4, 0, x'00', NULL);
PRAGMA user_version = 1;
"""


def of_version_1(folder: Path) -> None:
    folder.mkdir()
    with closing(sqlite3.connect(folder / "scheduler.sqlite3")) as db:
        db.executescript(VERSION_1)


def shape(folder: Path) -> tuple[list[str], dict[str, set[str]]]:
    """All tables and indexes, and the columns of each table."""
    with closing(sqlite3.connect(folder / "scheduler.sqlite3")) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        assert version == schema.VERSION
        names = sorted(name for (name,) in db.execute("SELECT name FROM sqlite_master"))
        columns = {name: {str(row[1:5]) for row in db.execute(f"PRAGMA table_info({name})")} for name in names}
    return names, columns


def test_a_database_of_version_1_becomes_like_a_fresh_one(tmp_path: Path) -> None:
    of_version_1(tmp_path / "old")
    for name in ("old", "fresh"):
        Store(tmp_path / name).close()
    assert shape(tmp_path / "old") == shape(tmp_path / "fresh")


def test_a_job_of_version_1_goes_on_where_it_was(tmp_path: Path) -> None:
    of_version_1(tmp_path / "old")
    with closing(Store(tmp_path / "old")) as store:
        (row,) = store.read(tables.unfinished_jobs).result()
        assert (row.job_id, row.state, row.submitted, row.progress) == ("old", State.RUNNING, 5.0, b"\x01")
        assert (row.workspace, row.pipeline_run, row.reused_from, row.not_reused) == ("default", "", "", "")
        assert row.let_in, "it had been set in motion"
        assert store.read(lambda db: after.predecessors(db, row.number)).result() == []
        assert [each.items for each in store.read(lambda db: tables.next_planned(db, 1, 0, 9)).result()] == [4]
