"""The shell around the Machine: it performs commands and turns what comes of them into events.

    service, nodes, streams, planning ──event──▶ tell ──▶ Machine ──commands──▶ perform ──▶ streams, store, publisher
                                                   ▲                               │
                                                   └───────── durable, done ───────┘

All of it runs on the event loop; disk work is on the store's threads, planning on a thread a job.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from batchmesh.v1 import agent_pb2

from . import tables
from .active import ActiveJob
from .committer import Committer
from .events import (
    AttemptEnd,
    AttemptsEnded,
    ClosePool,
    Commit,
    CreditsGranted,
    Discard,
    Dispatch,
    JobSubmitted,
    MiniBatchesPlanned,
    OpenPool,
    PlanGrew,
    PoolChanged,
    Settle,
    StreamEnded,
    TellState,
    Ticked,
)
from .jobs import failure_of
from .model import FINAL, Counts, Failure, FailureKind, MiniBatch, PoolPhase, State
from .nodes import Nodes
from .outcomes import read_outcomes
from .planning import Planning, PlanRow
from .spec import limits_of, plan_request
from .streams import NodeStream

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

    from .config import Config
    from .events import Command, Event
    from .jobs import JobRecord
    from .machine import Machine
    from .publisher import Publisher
    from .store import Store
    from .tables import JobRow

#: Seconds between two looks at leases and time limits; far below the shortest lease.
_TICK = 0.25
#: Seconds that the streams of a node that leaves have to end before it is taken for gone.
_NODE_END = 5.0
#: Seconds between two tries to write a state that the database refused.
_AGAIN = 2.0
#: Mini-batches read from the plan at once.
_FEED = 2048


class Dispatcher:
    """Owns the Machine and everything it commands. `storage_address` is where agents send their results."""

    def __init__(self, config: Config, machine: Machine, store: Store, publisher: Publisher) -> None:
        self._config = config
        self._machine = machine
        self._store = store
        self._committer = Committer(store, publisher, config.commit_patience, self.tell)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(config.pending_writes)
        self.storage_address = ""
        self.nodes = Nodes(config.lease, self.tell, self._node_settled)
        self.active: dict[str, ActiveJob] = {}

    # ---- events in ----

    def tell(self, event: Event) -> None:
        """Hands an event to the Machine and performs what it commands. Called on the event loop."""
        for command in self._machine.handle(event, time.monotonic()):
            self._perform(command)
        self._after(event)

    def _tell_from_thread(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self.tell, event)

    def _after(self, event: Event) -> None:
        job = self.active.get(getattr(event, "job_id", ""))
        if job is None:
            return
        if isinstance(event, PlanGrew):
            job.planned += event.mini_batches
        if isinstance(event, AttemptsEnded | JobSubmitted):
            self._feed(job)
        if not isinstance(event, CreditsGranted):
            job.record.changed()

    async def tick(self) -> None:
        """Leases and time limits, again and again for as long as the scheduler lives."""
        while True:
            await asyncio.sleep(_TICK)
            await self.nodes.judge()
            self.tell(Ticked())

    def start(self, record: JobRecord, counts: Counts | None = None) -> None:
        """Sets a job that is in the database in motion; `counts` is what is already done of it."""
        row = record.row
        job = self.active[row.job_id] = ActiveJob(record)
        self.tell(JobSubmitted(row.job_id, limits_of(record.spec), counts or Counts()))
        record.state = self._machine.jobs[row.job_id]
        if not row.planning_ended and record.state.state not in FINAL:

            def planned(grew: PlanGrew, rows: list[PlanRow]) -> None:
                self._loop.call_soon_threadsafe(self._on_planned, job, grew, rows)

            job.planning = Planning(row, plan_request(record.spec), self._store, planned, self._tell_from_thread)

    async def close(self) -> None:
        """Ends planning and cuts the streams; jobs stay as they are in the database."""
        for job in self.active.values():
            if job.planning:
                job.planning.stop()
            for stream in job.streams.values():
                stream.close(abort=True)
        ends = [stream.ended() for job in self.active.values() for stream in job.streams.values()]
        if ends:
            await asyncio.wait([asyncio.ensure_future(end) for end in ends], timeout=3)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.nodes.close()

    # ---- commands out ----

    def _perform(self, command: Command) -> None:
        job = self.active.get(command.job_id)
        if job is None:
            return
        match command:
            case Dispatch():
                self._dispatch(job, command)
            case Settle():
                for index in command.indexes:
                    job.payloads.pop(index, None)
            case OpenPool():
                self._open(job, command.node_id)
            case ClosePool():
                self._close(job, command)
            case TellState():
                self._spawn(self._tell_state(job, command.state))
            case Commit() | Discard():
                self._spawn(self._committer.end(job, report_only=isinstance(command, Discard)))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            structlog.get_logger().error("command_failed", exc_info=task.exception())

    def _open(self, job: ActiveJob, node_id: str) -> None:
        node = self.nodes.get(node_id)
        job_id = job.record.row.job_id
        if node is None or node_id in job.streams:
            self._loop.call_soon(self.tell, StreamEnded(job_id, node_id))
            return
        opening = agent_pb2.OpenPool(
            job_id=job_id,
            spec=job.record.spec,
            storage_address=self.storage_address,
            processes=job.record.spec.process_count_per_node,
        )
        job.streams[node_id] = NodeStream(
            node.channel, opening, partial(self._on_response, job, node_id), partial(self._on_end, job, node_id)
        )

    @staticmethod
    def _close(job: ActiveJob, command: ClosePool) -> None:
        stream = job.streams.get(command.node_id)
        if stream:
            stream.close(command.abort)

    def _on_end(self, job: ActiveJob, node_id: str) -> None:
        """Outcomes that the stream brought may still be on their way to the disk; they count before its end does."""
        job.streams.pop(node_id, None)
        ended = StreamEnded(job.record.row.job_id, node_id)
        self._store.write([]).add_done_callback(lambda _: self._tell_from_thread(ended))

    async def _node_settled(self, node_id: str) -> None:
        """Waits, within limits, until all that a node has told before it left is counted."""
        streams = [job.streams[node_id] for job in self.active.values() if node_id in job.streams]
        if streams:
            await asyncio.wait([asyncio.ensure_future(stream.ended()) for stream in streams], timeout=_NODE_END)
        await asyncio.wrap_future(self._store.write([]))

    def _dispatch(self, job: ActiveJob, command: Dispatch) -> None:
        payloads = job.payloads
        parcels = [(attempt, index, number, *payloads[index]) for attempt, index, number in command.attempts]
        job.streams[command.node_id].send(parcels)

    # ---- what nodes say ----

    async def _on_response(self, job: ActiveJob, node_id: str, response: agent_pb2.RunMiniBatchesResponse) -> None:
        job_id = job.record.row.job_id
        if response.HasField("pool"):
            pool = response.pool
            failure = failure_of(pool.failure) if pool.HasField("failure") else None
            self.tell(PoolChanged(job_id, node_id, PoolPhase(pool.phase), pool.workers, failure))
        if response.credits:
            self.tell(CreditsGranted(job_id, node_id, response.credits))
        if response.HasField("outcomes"):
            await self._on_outcomes(job, node_id, response.outcomes)

    async def _on_outcomes(self, job: ActiveJob, node_id: str, outcomes: agent_pb2.Outcomes) -> None:
        """Makes outcomes durable, then tells them; what is nobody's fault is told without a trace."""
        rows, ends = read_outcomes(job.record, node_id, outcomes)
        if not ends:
            return
        event = AttemptsEnded(job.record.row.job_id, ends)
        if not rows:
            self.tell(event)
            return
        await self._room.acquire()
        done = self._store.write(tables.add_outcomes(rows))
        done.add_done_callback(lambda future: self._loop.call_soon_threadsafe(self._durable, future, event))

    def _durable(self, future: Future[None], event: AttemptsEnded) -> None:
        self._room.release()
        error = future.exception()
        if error is None:
            self.tell(event)
            return
        structlog.get_logger().error("outcomes_not_written", job=event.job_id, why=str(error))
        lost = Failure(FailureKind.NOT_STARTED, f"The scheduler's database refused its outcome: {error}")
        self.tell(AttemptsEnded(event.job_id, [AttemptEnd(end.attempt_id, failure=lost) for end in event.ends]))

    # ---- the plan, piece by piece ----

    def _on_planned(self, job: ActiveJob, grew: PlanGrew, rows: list[PlanRow]) -> None:
        """The next piece of the plan is durable. Where there is room for it, it need not be read back."""
        if self.active.get(grew.job_id) is not job:
            return
        first = job.planned
        self.tell(grew)
        room = len(job.payloads) + len(rows) <= self._config.window
        if room and job.fed == first and not job.feeding:
            job.fed = job.planned
            pieces = [
                (index, items, affinity, payload, 0) for _, index, items, affinity, payload, bad in rows if not bad
            ]
            self._take(job, pieces)
        self._feed(job)

    def _take(self, job: ActiveJob, pieces: list[tuple[int, int, int, bytes, int]]) -> None:
        """Opens mini-batches: index, items, affinity, payload, tries so far."""
        for index, _, affinity, payload, _ in pieces:
            job.payloads[index] = (payload, affinity)
        mini_batches = [MiniBatch(index, items, tries) for index, items, _, _, tries in pieces]
        self.tell(MiniBatchesPlanned(job.record.row.job_id, mini_batches))

    def _feed(self, job: ActiveJob) -> None:
        """Reads the next piece of the plan when the window has room for it."""
        if job.feeding or job.fed >= job.planned or len(job.payloads) > self._config.window - _FEED:
            return
        job.feeding = True
        self._spawn(self._feed_once(job, job.planned))

    async def _feed_once(self, job: ActiveJob, planned: int) -> None:
        row = job.record.row
        ask = partial(tables.next_planned, number=row.number, after=job.fed, count=_FEED)
        pieces = await asyncio.wrap_future(self._store.read(ask))
        job.fed = pieces[-1][0] + 1 if len(pieces) == _FEED else max(planned, job.fed)
        if pieces and pieces[-1][0] >= job.fed:
            job.fed = pieces[-1][0] + 1
        job.feeding = False
        if self.active.get(row.job_id) is job:
            self._take(job, pieces)
            self._feed(job)

    # ---- states and outputs ----

    async def _tell_state(self, job: ActiveJob, state: State) -> None:
        """Durable before told: the row that clients see changes once the database has it."""
        record = job.record
        row = record.frozen()
        row.state = int(state)
        row.started = row.started or (time.time() if state is State.RUNNING else None)
        row.cancelled = int(record.state is not None and record.state.cancelled)
        if state in FINAL:
            row.ended = time.time()
        await self._write_state(record, row)
        record.row = row
        if state in FINAL:
            self._forget(job)
        record.changed()

    async def _write_state(self, record: JobRecord, row: JobRow) -> None:
        """Tries again for as long as the database cannot be written, with the reason for all to see."""
        while True:
            try:
                await asyncio.wrap_future(self._store.write(tables.set_state(row)))
            except sqlite3.Error as error:
                record.hold(f"the scheduler's database cannot be written: {error}")
                await asyncio.sleep(_AGAIN)
            else:
                record.hold("")
                return

    def _forget(self, job: ActiveJob) -> None:
        job_id = job.record.row.job_id
        job.record.state = None
        self._machine.forget(job_id)
        self.active.pop(job_id, None)
