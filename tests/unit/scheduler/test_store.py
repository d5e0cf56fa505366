"""The database: durable before told, one bad write costs no neighbour, a full disk is waited for, and one owner."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from batchmesh.errors import Refused
from batchmesh.scheduler import counting, tables
from batchmesh.scheduler.store import Conflict, Store, StoreFailed
from tests.support.story import wait_for
from tests.unit.scheduler.database import add_job, add_plan, whole, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The tables as the version before the first one with a number made them.
_OLD_TABLES = """
CREATE TABLE starts (epoch INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, spec BLOB NOT NULL, state INTEGER NOT NULL,
    input_kind INTEGER NOT NULL, round INTEGER NOT NULL DEFAULT 0,
    submitted REAL NOT NULL, started REAL, ended REAL, cancelled INTEGER NOT NULL DEFAULT 0,
    error BLOB, first_failure BLOB, progress BLOB,
    planned INTEGER NOT NULL DEFAULT 0, planned_items INTEGER NOT NULL DEFAULT 0,
    unreadable INTEGER NOT NULL DEFAULT 0, planning_ended INTEGER NOT NULL DEFAULT 0, cursor TEXT,
    output_path TEXT NOT NULL DEFAULT '', report_path TEXT NOT NULL DEFAULT ''
);
CREATE TABLE mini_batches (
    job INTEGER, idx INTEGER, items INTEGER NOT NULL, affinity INTEGER NOT NULL, payload BLOB NOT NULL, failure BLOB,
    PRIMARY KEY (job, idx)
) WITHOUT ROWID;
CREATE TABLE outcomes (
    job INTEGER, idx INTEGER, tries INTEGER NOT NULL, attempt INTEGER NOT NULL, segment TEXT NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL, rows INTEGER NOT NULL,
    succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, node TEXT NOT NULL, process INTEGER NOT NULL,
    started_us INTEGER NOT NULL, run_us INTEGER NOT NULL, elapsed_us INTEGER NOT NULL, failure BLOB,
    final INTEGER NOT NULL, PRIMARY KEY (job, idx)
) WITHOUT ROWID;
CREATE TABLE files_without_rows (job INTEGER, path TEXT NOT NULL);
CREATE INDEX files_without_rows_of_job ON files_without_rows (job);
INSERT INTO starts VALUES (41, 100.5);
INSERT INTO jobs (number, job_id, spec, state, input_kind, submitted, planned, planned_items, planning_ended)
    VALUES (1, 'old', x'01', 2, 1, 100.0, 3, 24, 1);
INSERT INTO mini_batches VALUES (1, 0, 8, 0, x'00', NULL), (1, 1, 8, 0, x'00', NULL), (1, 2, 8, 5, x'00', NULL);
INSERT INTO outcomes VALUES (1, 0, 1, 7, 'segment', 0, 100, 8, 8, 0, 'node', 0, 1, 2, 3, NULL, 1),
    (1, 1, 3, 8, '', 0, 0, 0, 0, 8, 'node', 0, 1, 2, 3, x'0801', 1),
    (1, 2, 1, 9, '', 0, 0, 0, 0, 8, 'node', 0, 1, 2, 3, x'0801', 0);
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As on a full disk: what this process writes beyond `size` bytes of a file fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_is_told_is_there_after_reopening(tmp_path: Path) -> None:
    store = Store(tmp_path)
    row = add_job(store)
    store.close()
    again = Store(tmp_path)
    found = again.read(lambda db: tables.find_job(db, "job-1")).result()
    again.close()
    assert found == row


def test_each_start_has_larger_numbers(tmp_path: Path) -> None:
    starts = []
    for _ in range(3):
        store = Store(tmp_path)
        starts += [store.begin(), store.begin()]
        store.close()
    numbers, stamps = [each.number for each in starts], [each.stamp for each in starts]
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert stamps == sorted(set(stamps))


def test_a_bad_write_in_a_group_costs_only_itself(store: Store) -> None:
    row = add_job(store)
    writes = [store.write(tables.add_job(f"job-{number}", b"", 1, 1.0)) for number in (1, 2, 3)]
    with pytest.raises(Conflict):
        writes[0].result()
    assert [write.exception() for write in writes[1:]] == [None, None]
    assert store.read(lambda db: tables.find_job(db, "job-1")).result() == row


def test_a_number_that_does_not_fit_costs_its_own_write_alone(store: Store) -> None:
    row = add_job(store)
    add_plan(store, row, 1)
    with pytest.raises(Conflict):
        write(store, whole(row, 0)._replace(offset=2**63))
    write(store, whole(row, 0))


def test_whoever_stops_waiting_for_a_write_does_not_stop_it(store: Store) -> None:
    assert not store.write(tables.add_job("job-1", b"", 1, 1.0)).cancel()
    add_job(store, "job-2")
    assert store.read(lambda db: tables.find_job(db, "job-1")).result() is not None


def test_a_second_scheduler_is_refused_the_folder_with_its_owner_named(tmp_path: Path, store: Store) -> None:
    with pytest.raises(Refused, match=r"Another scheduler \(process \d+\) uses the state folder .*; end that one, or"):
        Store(tmp_path)
    add_job(store)


def test_a_scheduler_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from batchmesh.scheduler.store import Store; "
        "Store(pathlib.Path(sys.argv[1])).begin(); print('begun', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"begun\n"
        other.send_signal(signal.SIGKILL)
        other.wait(20)
    store = Store(tmp_path)
    assert store.begin().number == 2
    store.close()


def test_a_write_that_finds_no_room_waits_until_there_is_some(tmp_path: Path, store: Store) -> None:
    row = add_job(store)
    told = threading.Event()
    with no_file_larger_than((tmp_path / "scheduler.sqlite3-wal").stat().st_size + 20_000):
        large = store.write(tables.add_job("large", b"x" * 100_000, 1, 1.0))
        large.add_done_callback(lambda _: told.set())
        wait_for(lambda: store.trouble, "the trouble to be told")
        assert "the scheduler's database cannot be written" in store.trouble
        assert store.read(lambda db: tables.find_job(db, "job-1")).result() == row
        assert not told.is_set()
    large.result(timeout=30)
    assert store.trouble == ""
    assert store.read(lambda db: tables.find_job(db, "large")).result() is not None


def test_a_conflict_in_a_group_that_waited_for_room_is_told_as_one(tmp_path: Path, store: Store) -> None:
    add_job(store)
    with no_file_larger_than((tmp_path / "scheduler.sqlite3-wal").stat().st_size + 20_000):
        large = store.write(tables.add_job("large", b"x" * 100_000, 1, 1.0))
        wait_for(lambda: store.trouble, "the trouble to be told")
        twice = store.write(tables.add_job("job-1", b"", 1, 1.0))
    large.result(timeout=30)
    with pytest.raises(Conflict):
        twice.result(timeout=30)


def test_a_full_disk_does_not_keep_a_scheduler_from_ending(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_job(store)
    with no_file_larger_than((tmp_path / "scheduler.sqlite3-wal").stat().st_size + 20_000):
        large = store.write(tables.add_job("large", b"x" * 100_000, 1, 1.0))
        wait_for(lambda: store.trouble, "the trouble to be told")
        store.close()
    with pytest.raises(StoreFailed):
        large.result(timeout=0)
    again = Store(tmp_path)
    assert again.read(lambda db: tables.find_job(db, "job-1")).result() is not None
    again.close()


def test_the_log_of_a_large_write_does_not_stay_on_the_disk(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "scheduler.sqlite3-wal"
    add_job(store, "large", b"x" * 10_000_000)
    assert log.stat().st_size > 10_000_000
    add_job(store, "small")
    assert log.stat().st_size <= 8 * 2**20


def test_what_is_deleted_makes_room_for_what_comes(tmp_path: Path) -> None:
    sizes = []
    for number in range(4):
        store = Store(tmp_path)
        row = add_job(store, f"job-{number}")
        add_plan(store, row, 2000, b"p" * 500)
        store.write(tables.delete_job(row.number)).result()
        store.close()
        sizes.append((tmp_path / "scheduler.sqlite3").stat().st_size)
    assert max(sizes) < 1.2 * sizes[0]


def test_a_database_of_before_is_taken_over_with_all_that_is_done(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "scheduler.sqlite3")
    db.executescript(_OLD_TABLES)
    db.close()
    for _ in range(2):  # the second time nothing is left to change
        store = Store(tmp_path)
        row = store.read(lambda db: tables.find_job(db, "old")).result()
        assert row is not None
        assert row.submitted_spec == row.spec == b"\x01"
        counts = store.read(lambda db: counting.counted(db, "old", 3)).result()
        assert (counts.succeeded_items, counts.failed_items, counts.settled) == (8, 8, 2)
        (left,) = store.read(lambda db: tables.next_planned(db, 1, 0, 10)).result()
        assert (left.idx, left.items, left.affinity, left.rows[0].tries, left.attempt) == (2, 8, 5, 1, 9)
        assert store.begin().number > 41
        store.close()


def test_the_number_of_a_job_that_was_deleted_is_not_given_again(store: Store) -> None:
    first = add_job(store, "first").number
    store.write(tables.delete_job(first)).result()
    assert add_job(store, "second").number > first


def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    db = sqlite3.connect(tmp_path / "scheduler.sqlite3")
    db.execute("PRAGMA user_version = 99")
    db.close()
    for _ in range(2):  # and its lock is given up
        with pytest.raises(Refused, match="written by a later batchmesh"):
            Store(tmp_path)


def test_what_is_no_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "scheduler.sqlite3").write_bytes(b"what is this?" * 1000)
    with pytest.raises(StoreFailed, match="cannot be opened"):
        Store(tmp_path)


def test_a_long_question_does_not_keep_another_one_waiting(store: Store) -> None:
    done = threading.Event()
    long = store.read(lambda db: done.wait(20))
    assert store.read(lambda db: db.execute("SELECT 1").fetchone()).result(20) == (1,)
    assert not long.done()
    done.set()
    assert long.result()
