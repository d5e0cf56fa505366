"""The scheduler's database: plans, outcomes and job states, durable before they are told.

    loop and planner threads ──Write──▶ one writer thread ──one transaction a group──▶ SQLite (WAL, synchronous=FULL)
    committer and feeder ◀──rows── two reader threads

Whoever writes gets a future that is done when the group is on the disk. While the disk has no room, or fails, the group
is tried again and `trouble` says why. This is the only module that knows which database it is.
"""

from __future__ import annotations

import fcntl
import os
import queue
import sqlite3
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import structlog

from batchmesh.errors import Refused, ServiceFailed

from .schema import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Statement = tuple[str, Sequence[Sequence[Any]]]
    #: Statements that belong together, and who waits for them.
    _Write = tuple[list[Statement], Future[None]]

_Answer = TypeVar("_Answer")

#: Writes in one transaction at most.
_GROUP = 4096
#: Seconds between two tries of what the disk refused.
_AGAIN = 1.0
#: Bytes of the write-ahead log that stay on the disk once it is empty; a large deletion lets it grow far above.
_LOG_BYTES = 8 * 2**20
#: Threads that read: the counts of a job of a million mini-batches take seconds, in which other jobs go on.
_READERS = 2
#: What passes by itself, or once somebody has made room: full, an I/O error, locked, cannot be opened.
_PASSING = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN}
)


class StoreFailed(ServiceFailed):
    """The database cannot do what was asked of it, and no waiting mends that."""


class Conflict(StoreFailed):
    """What was to be written does not fit: a key that must be unique is not, a number is too large."""


class Rows(Protocol):
    """What a statement gives: rows as tuples."""

    def __iter__(self) -> Iterator[Any]: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Database(Protocol):
    """What a question may ask: one statement, `?` standing for each parameter."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows: ...


class Start(NamedTuple):
    """One start of the scheduler. Both numbers are larger than those of all starts before, whatever the clock does.

    `stamp` is the time in milliseconds, so that agents know even a scheduler that has lost its database for the later
    one.
    """

    number: int
    stamp: int


class Store:
    """Opens (and creates) the database in `folder`, whose lock it holds. `durable_delay` (seconds) holds each commit
    back, for tests. Raises Refused when another scheduler uses the folder."""

    def __init__(self, folder: Path, durable_delay: float = 0.0) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # specs may hold what only their owner is to see
        self._lock = _lock(folder)
        self._path = folder / "scheduler.sqlite3"
        self._delay = durable_delay
        self._closing = threading.Event()
        self._troubles: dict[str, str] = {}
        # Has no bound of its own: whoever writes has one, and the event loop may not wait here.
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        try:
            self._writing = self._persist("opened", self._open)
            self._reading = queue.SimpleQueue[sqlite3.Connection]()
            for _ in range(_READERS):
                self._reading.put(self._persist("opened", lambda: _connect(self._path)))
        except BaseException:
            self._lock.close()
            raise
        self._writer = threading.Thread(target=self._write_groups, name="store-writer", daemon=True)
        self._writer.start()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")

    @property
    def trouble(self) -> str:
        """Why the database cannot be written or read at present; empty when it can."""
        return next(iter(list(self._troubles.values())), "")

    def write(self, statements: list[Statement]) -> Future[None]:
        """Runs the statements, each with all of its rows, in one transaction; the future is done once it is durable.

        Writes become durable in the order in which they were asked for. The future raises Conflict or StoreFailed.
        """
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # who waits for it may go away; the write stays
        self._queue.put((statements, done))
        return done

    def read(self, question: Callable[[Database], _Answer]) -> Future[_Answer]:
        """Asks the database on a reader's thread, which sees all writes that are done. Raises StoreFailed."""
        return self._readers.submit(self._read, question)

    def _read(self, question: Callable[[Database], _Answer]) -> _Answer:
        db = self._reading.get()
        try:
            return self._persist("read", lambda: question(db))
        finally:
            self._reading.put(db)

    def begin(self) -> Start:
        """Writes down that the scheduler starts, and which start this is."""
        last = self.read(_last_start).result()
        start = Start(last.number + 1, max(last.stamp + 1, int(time.time() * 1000)))
        insert: Statement = ("INSERT INTO starts (epoch, at) VALUES (?, ?)", [(start.number, start.stamp / 1000)])
        forget: Statement = ("DELETE FROM starts WHERE epoch < ?", [(start.number,)])
        self.write([insert, forget]).result()
        return start

    def close(self) -> None:
        """Writes what is waiting, unless the disk refuses it, and closes."""
        self._closing.set()
        self._queue.put(None)
        self._writer.join()
        self._readers.shutdown()
        for _ in range(_READERS):
            self._reading.get().close()
        self._lock.close()

    def _open(self) -> sqlite3.Connection:
        db = _connect(self._path)
        try:
            prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _write_groups(self) -> None:
        while True:
            group = self._next_group()
            last = group[-1] is None
            writes = [each for each in group if each is not None]
            if writes:
                self._write_group(writes)
            if last:
                self._writing.close()
                return

    def _next_group(self) -> list[_Write | None]:
        group = [self._queue.get()]
        while group[-1] is not None and len(group) < _GROUP:
            try:
                group.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return group

    def _write_group(self, group: list[_Write]) -> None:
        """One bad write may not cost its neighbours: after a failed group each is tried by itself."""
        statements = [each for statements, _ in group for each in statements]
        try:
            self._persist("written", lambda: _transact(self._writing, statements))
        except Exception as error:  # noqa: BLE001 whatever it is, whoever waits for it hears of it, and the next go on
            if len(group) == 1:
                group[0][1].set_exception(error)
                return
            for each in group:
                self._write_group([each])
            return
        if self._delay:
            time.sleep(self._delay)
        for _, done in group:
            done.set_result(None)

    def _persist(self, doing: str, work: Callable[[], _Answer]) -> _Answer:
        """Does `work` again and again while the disk has no room or fails. Raises Conflict or StoreFailed."""
        while True:
            try:
                answer = work()
            except (sqlite3.IntegrityError, OverflowError) as error:
                raise Conflict(f"The scheduler's database refused what does not fit into it: {error}.") from error
            except sqlite3.Error as error:
                why = f"the scheduler's database cannot be {doing}: {error}"
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _PASSING or self._closing.is_set():
                    raise StoreFailed(f"{why[0].upper()}{why[1:]}.") from error
                self._tell_trouble(doing, why)
            else:
                if self._troubles:
                    self._tell_trouble(doing, "")
                return answer
            self._closing.wait(_AGAIN)

    def _tell_trouble(self, doing: str, why: str) -> None:
        """Kept apart for each thread; told once."""
        before = self._troubles.pop(doing, "")
        if why:
            self._troubles[doing] = why
        if why != before:
            structlog.get_logger().warning("database_in_trouble" if why else "database_works_again", why=why or before)


def _last_start(db: Database) -> Start:
    row = db.execute("SELECT epoch, at FROM starts ORDER BY epoch DESC LIMIT 1").fetchone()
    return Start(row[0], round(row[1] * 1000)) if row else Start(0, 0)


def _transact(db: sqlite3.Connection, statements: list[Statement]) -> None:
    if not statements:
        return
    try:
        db.execute("BEGIN IMMEDIATE")
        for sql, rows in statements:
            db.executemany(sql, rows)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):  # some failures have rolled it back already
                db.execute("ROLLBACK")
        raise


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA journal_size_limit={_LOG_BYTES}")
        db.execute("PRAGMA temp_store=MEMORY")  # no question may fail because some other disk is full
    except BaseException:
        db.close()
        raise
    return db


def _lock(folder: Path) -> IO[str]:
    """Held for as long as the file is open, and given up by the kernel however we end."""
    lock = (folder / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read(32).strip()
        lock.close()
        by = f" (process {owner})" if owner else ""
        raise Refused(
            f"Another scheduler{by} uses the state folder {folder}; end that one, or give another --state."
        ) from None
    with suppress(OSError):  # on a full disk the lock holds without a name
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
    return lock
