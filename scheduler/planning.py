"""Planning a job on a thread of its own: the input is listed and split, and written ahead to the database.

plan() ──mini-batches──▶ one write for all of the last 20 ms ──durable──▶ PlanGrew
   ▲                                                        │
   └──(a rest, when there is plenty to run)─────────────────┘
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from batchmesh.data.slices import shown
from batchmesh.errors import BatchmeshError
from batchmesh.v1 import job_pb2

from .events import PlanGrew, PlanningFailed
from .jobs import failure_of
from .model import Failure, FailureKind
from .planner import FileWithoutRows, PlannedMiniBatch, PlanRequest, plan
from .spec import KINDS
from .tables import JobRow, add_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from .events import Event
    from .inputs import Remote
    from .planner import ByNodes
    from .store import Store

_FLUSH_SECONDS = 0.02
_FLUSH_ROWS = 2048
_FLUSH_BYTES = 4 * 2**20
#: Writes that may be on their way to the disk before the listing waits for it.
_WRITES_AHEAD = 4
#: With so many mini-batches waiting to be read from the plan, each second of listing is followed by so many of rest:
#: what runs them needs the interpreter, and would be slow for as long as the listing of a large input takes.
_PLENTY = 4096
_REST = 3.0

#: Bytes of one mini-batch's slice at most: it travels in one message, beside others.
_SLICE_LIMIT = 2 * 2**20

#: A row to insert into mini_batches: job, index, items, affinity, payload, failure.
PlanRow = tuple[int, int, int, int, bytes, bytes | None]


class Planning:
    """Plans one job from where its row says planning had come.

    `on_planned` is called for each piece of the plan once it is durable, in order; `tell` when planning failed. Both
    are called on other threads than the caller's.
    """

    def __init__(
        self,
        row: JobRow,
        request: PlanRequest,
        store: Store,
        on_planned: Callable[[PlanGrew, list[PlanRow]], object],
        tell: Callable[[Event], None],
        ahead: Callable[[], int],
        remote: Remote | None = None,
        nodes: ByNodes | None = None,
    ) -> None:
        """`ahead` says how many mini-batches are planned and not opened yet."""
        self._row = replace(row)
        self._request = request
        self._store = store
        self._on_planned = on_planned
        self._tell = tell
        self._ahead = ahead
        self._remote = remote
        self._nodes = replace(nodes, idle=self._flush_all) if nodes else None
        self._stopped = threading.Event()
        self._rows: list[PlanRow] = []
        self._bytes = 0
        self._empty: list[str] = []
        self._items = 0
        self._last: PlannedMiniBatch | FileWithoutRows | None = None
        self._unreadable: list[job_pb2.Failure] = []
        self._writing: deque[Future[None]] = deque()
        self._rested = 0.0
        self._thread = threading.Thread(target=self._run, name=f"plan-{row.job_id}", daemon=True)
        self._thread.start()

    def stop(self, patience: float = 0.0) -> None:
        """Ends the listing at its next mini-batch, waiting at most `patience` seconds; what is written stays."""
        self._stopped.set()
        if self._nodes:
            self._nodes.ask.stop()
        self._thread.join(patience)

    def _run(self) -> None:
        try:
            self._plan()
        except CancelledError:
            return  # stopped while it waited for a node
        except (OSError, ValueError, BatchmeshError) as error:
            self._failed(f"Listing the input failed: {error}")
        except Exception as error:  # noqa: BLE001 a damaged file may raise anything; the job says so, and ends
            structlog.get_logger().exception("planning_failed", job=self._row.job_id)
            self._failed(f"Splitting the input failed with {type(error).__name__}: {error}")

    def _plan(self) -> None:
        flushed = 0.0
        kind = KINDS.get(job_pb2.InputKind.ValueType(self._row.input_kind))
        for planned in plan(self._request, self._row.cursor, self._remote, kind, self._nodes):
            if self._stopped.is_set():
                return
            self._take(planned)
            due = time.monotonic() - flushed > _FLUSH_SECONDS
            if due or len(self._rows) >= _FLUSH_ROWS or self._bytes >= _FLUSH_BYTES:
                self._flush(ended=False)
                self._rest()
                flushed = time.monotonic()
        if not self._stopped.is_set():
            self._flush(ended=True)

    def _rest(self) -> None:
        worked = time.thread_time() - self._rested
        if self._ahead() > _PLENTY:
            self._stopped.wait(_REST * worked)
        self._rested = time.thread_time()

    def _take(self, planned: PlannedMiniBatch | FileWithoutRows) -> None:
        row = self._row
        self._last = planned
        if isinstance(planned, PlannedMiniBatch) and len(planned.payload) > _SLICE_LIMIT:
            raise ValueError(too_large(planned))
        if isinstance(planned, FileWithoutRows):
            self._empty.append(planned.path)
            return
        failure = None
        if planned.failure is not None:
            proto = job_pb2.Failure(kind=job_pb2.Failure.KIND_UNREADABLE_FILE, message=planned.failure.message)
            failure = proto.SerializeToString()
            self._unreadable.append(proto)
            row.unreadable += 1
        self._rows.append((row.number, row.planned, planned.items, planned.affinity, planned.payload, failure))
        self._bytes += len(planned.payload)
        self._items += planned.items
        row.planned += 1
        row.planned_items += planned.items

    def _flush_all(self) -> None:
        """Nothing more is planned for a while."""
        if self._rows or self._empty:
            self._flush(ended=False)

    def _flush(self, ended: bool) -> None:
        self._row.planning_ended = int(ended)
        self._row.cursor = self._last.cursor if self._last else self._row.cursor
        grew = PlanGrew(
            self._row.job_id,
            mini_batches=len(self._rows),
            items=self._items,
            ended=ended,
            unreadable=len(self._unreadable),
            first_unreadable=failure_of(self._unreadable[0]) if self._unreadable else None,
        )
        rows = self._rows
        done = self._store.write(add_plan(self._row, rows, self._empty))
        done.add_done_callback(lambda future: self._written(future, grew, rows))
        self._rows, self._empty, self._unreadable, self._items, self._bytes = [], [], [], 0, 0
        self._writing.append(done)
        while len(self._writing) > _WRITES_AHEAD:
            self._writing.popleft().result()

    def _written(self, future: Future[None], grew: PlanGrew, rows: list[PlanRow]) -> None:
        error = future.exception()
        if error is None:
            self._on_planned(grew, rows)
        else:
            self._failed(f"The plan could not be written to the scheduler's database: {error}")

    def _failed(self, sentence: str) -> None:
        self._tell(PlanningFailed(self._row.job_id, Failure(FailureKind.PLANNING_FAILED, sentence)))


def too_large(planned: PlannedMiniBatch) -> str:
    """The sentence for a mini-batch whose slice does not fit into a message."""
    if planned.place.kind == "files":
        return f"one mini-batch names {planned.items} files, too many to send; make mini_batch_size smaller"
    return (
        f"{shown(planned.place.path)} has more columns than can be sent with each mini-batch; give --input-type files,"
        " and read it in the script"
    )
