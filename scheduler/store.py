"""The scheduler's database: plans, outcomes and job states, durable before they are told.

    loop and planner threads ──Write──▶ one writer thread ──one transaction a group──▶ SQLite (WAL, synchronous=FULL)
    committer and feeder ◀──rows── one reader thread

Whoever writes gets a future that is done when the group is on the disk.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Statement = tuple[str, Sequence[Sequence[Any]]]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS starts (epoch INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, spec BLOB NOT NULL, state INTEGER NOT NULL,
    input_kind INTEGER NOT NULL, round INTEGER NOT NULL DEFAULT 0,
    submitted REAL NOT NULL, started REAL, ended REAL, cancelled INTEGER NOT NULL DEFAULT 0,
    error BLOB, first_failure BLOB, progress BLOB,
    planned INTEGER NOT NULL DEFAULT 0, planned_items INTEGER NOT NULL DEFAULT 0,
    unreadable INTEGER NOT NULL DEFAULT 0, planning_ended INTEGER NOT NULL DEFAULT 0, cursor TEXT,
    output_path TEXT NOT NULL DEFAULT '', report_path TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS mini_batches (
    job INTEGER, idx INTEGER, items INTEGER NOT NULL, affinity INTEGER NOT NULL, payload BLOB NOT NULL, failure BLOB,
    PRIMARY KEY (job, idx)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcomes (
    job INTEGER, idx INTEGER, tries INTEGER NOT NULL, attempt INTEGER NOT NULL, segment TEXT NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL, rows INTEGER NOT NULL,
    succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, node TEXT NOT NULL, process INTEGER NOT NULL,
    started_us INTEGER NOT NULL, run_us INTEGER NOT NULL, elapsed_us INTEGER NOT NULL, failure BLOB,
    final INTEGER NOT NULL, PRIMARY KEY (job, idx)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files_without_rows (job INTEGER, path TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS files_without_rows_of_job ON files_without_rows (job);
"""
#: Groups waiting for the writer; more, and whoever writes waits.
_QUEUE_LIMIT = 4096


class Store:
    """Opens (and creates) the database in `folder`. `durable_delay` (seconds) holds each commit back, for tests."""

    def __init__(self, folder: Path, durable_delay: float = 0.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "scheduler.sqlite3"
        self._delay = durable_delay
        self._queue: queue.Queue[tuple[list[Statement], Future[None]] | None] = queue.Queue(_QUEUE_LIMIT)
        writer = _connect(self._path)
        writer.executescript(_SCHEMA)
        self._writer = threading.Thread(target=self._write_groups, args=(writer,), name="store-writer", daemon=True)
        self._writer.start()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._reading = self._reader.submit(_connect, self._path).result()

    def write(self, statements: list[Statement]) -> Future[None]:
        """Runs the statements, each with all of its rows, in one transaction; the future is done once it is durable."""
        done: Future[None] = Future()
        self._queue.put((statements, done))
        return done

    def read(self, question: Callable[[sqlite3.Connection], Any]) -> Future[Any]:
        """Asks the database on the reader's thread."""
        return self._reader.submit(question, self._reading)

    def begin(self) -> int:
        """The number of this start of the scheduler; each is larger than all before."""
        now = time.time()
        self.write([("INSERT INTO starts (at) VALUES (?)", [(now,)])]).result()
        epoch: int = self.read(lambda db: db.execute("SELECT max(epoch) FROM starts").fetchone()[0]).result()
        return epoch

    def close(self) -> None:
        """Writes what is waiting and closes."""
        self._queue.put(None)
        self._writer.join()
        self._reader.submit(self._reading.close).result()
        self._reader.shutdown()

    def _write_groups(self, db: sqlite3.Connection) -> None:
        while True:
            group = self._next_group()
            if group:
                self._write_group(db, [each for each in group if each is not None])
            if group and group[-1] is None:
                db.close()
                return

    def _next_group(self) -> list[tuple[list[Statement], Future[None]] | None]:
        group = [self._queue.get()]
        while group[-1] is not None and len(group) < _QUEUE_LIMIT:
            try:
                group.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return group

    def _write_group(self, db: sqlite3.Connection, group: list[tuple[list[Statement], Future[None]]]) -> None:
        try:
            _transact(db, [each for statements, _ in group for each in statements])
        except sqlite3.Error as error:
            _each_alone(db, group, error)
            return
        if self._delay:
            time.sleep(self._delay)
        for _, done in group:
            done.set_result(None)


def _transact(db: sqlite3.Connection, statements: list[Statement]) -> None:
    try:
        db.execute("BEGIN IMMEDIATE")
        for sql, rows in statements:
            db.executemany(sql, rows)
        db.execute("COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _each_alone(
    db: sqlite3.Connection, group: list[tuple[list[Statement], Future[None]]], error: sqlite3.Error
) -> None:
    """One bad write may not cost its neighbours: after a failed group each is tried by itself."""
    if len(group) == 1:
        group[0][1].set_exception(error)
        return
    for statements, done in group:
        try:
            _transact(db, statements)
        except sqlite3.Error as alone:
            done.set_exception(alone)
        else:
            done.set_result(None)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    return db
