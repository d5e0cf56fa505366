"""The shell around the Machine: it performs commands and turns what comes of them into events.

    service, nodes, streams, planning ──event──▶ tell ──▶ Machine ──commands──▶ perform ──▶ streams, store, publisher
                                                   ▲                               │
                                                   └───────── durable, done ───────┘

All of it runs on the event loop; disk work is on the store's threads, planning on a thread a job. A mistake of ours in
here leaves the Machine in a state nobody can tell: `failed` says so, and only another start from the database helps.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from batchmesh.v1 import agent_pb2, job_pb2

from . import tables
from .active import ActiveJob
from .clock import AwakeClock
from .committer import Committer
from .events import (
    Abort,
    AttemptEnd,
    AttemptsEnded,
    ClosePool,
    Commit,
    CreditsGranted,
    Discard,
    Dispatch,
    JobSubmitted,
    NodeLost,
    OpenPool,
    RecordLoss,
    Seal,
    Settle,
    StreamEnded,
    TellState,
    Ticked,
)
from .feeding import Feed
from .hearing import Hearing
from .model import FINAL, Counts, State
from .nodes import Nodes
from .outcomes import failed_outcome
from .planner import ByNodes
from .planning import Planning
from .scanning import Scanning
from .spec import limits_of, plan_request
from .streams import NodeStream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .config import Config
    from .datastores import Datastores
    from .events import Command, Event, PlanGrew
    from .jobs import JobRecord
    from .machine import Machine
    from .planning import PlanRow
    from .publisher import Publisher
    from .store import Statement, Store

#: Seconds between two looks at leases and time limits; far below the shortest lease.
_TICK = 0.25
#: Seconds that streams that were cut have to notice it when the scheduler ends.
_CUT_END = 3.0


class Dispatcher:
    """Owns the Machine and everything it commands. `stamp` tells agents which scheduler is the latest one,
    `storage_address` where to send their results."""

    def __init__(
        self,
        config: Config,
        machine: Machine,
        store: Store,
        publisher: Publisher,
        stamp: int,
        datastores: Datastores | None = None,
    ) -> None:
        """Without `datastores` jobs have their inputs on this host."""
        self._config = config
        self.datastores = datastores
        self._machine = machine
        self._store = store
        self._stamp = stamp
        self._committer = Committer(store, publisher, config.commit_patience, self.tell)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._clock = AwakeClock(config.lease / 3)
        #: Done, with the error, when the scheduler can only start again.
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self.storage_address = ""
        self.active: dict[str, ActiveJob] = {}
        self._hearing = Hearing(store, self.active, config.pending_writes, self.tell, self._fail)
        self.nodes = Nodes(config.lease, self.tell, self._hearing.nothing_more, self.spawn)
        self._scanning = Scanning(self.nodes, self.tell, lambda: self.storage_address)
        #: Called with the id of each job that has ended.
        self.on_end: Callable[[str], object] = lambda _: None

    # ---- events in ----

    def tell(self, event: Event) -> None:
        """Hands an event to the Machine and performs what it commands. Called on the event loop."""
        if self._closing:
            return
        try:
            for command in self._machine.handle(event, self._clock.at(time.monotonic())):
                self._perform(command)
            self._after(event)
        except Exception as error:
            self._fail(error)
            raise

    def _tell_from_thread(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self.tell, event)

    def _after(self, event: Event) -> None:
        if isinstance(event, NodeLost):
            self._write(tables.forget_node(event.node_id))
        job = self.active.get(getattr(event, "job_id", ""))
        if job is None:
            return
        if isinstance(event, AttemptsEnded | JobSubmitted):
            job.feed.go_on()
        if not isinstance(event, CreditsGranted):
            job.record.changed()

    def _fail(self, error: BaseException) -> None:
        if not self._closing and not self.failed.done():
            self.failed.set_exception(error)

    async def tick(self) -> None:
        """Leases and time limits, again and again for as long as the scheduler lives."""
        while True:
            await asyncio.sleep(_TICK)
            for job in self.active.values():
                job.record.troubled(self._store.trouble)
            self.nodes.judge()
            self.tell(Ticked())

    def start(self, record: JobRecord, counts: Counts | None = None, nodes: frozenset[str] = frozenset()) -> None:
        """Sets a job that is in the database in motion; `counts` is what is already done of it, `nodes` are those that
        may hold attempts of it. One that was ENDING for an error of its own does so again."""
        row = record.row
        feed = Feed(record, self._store, self._config.window, self.tell, self.spawn)
        job = self.active[row.job_id] = ActiveJob(record, feed)
        limits, first = limits_of(record.spec), record.first_failure()
        ended_by = record.error() if row.state == State.ENDING else None
        self.tell(JobSubmitted(row.job_id, limits, counts or Counts(), nodes, self._config.lease, first, ended_by))
        record.state = self._machine.jobs[row.job_id]
        if not row.planning_ended and record.state.state not in FINAL:

            def planned(grew: PlanGrew, rows: list[PlanRow]) -> None:
                self._loop.call_soon_threadsafe(self._on_planned, job, grew, rows)

            remote = self.datastores.planned(record.spec.workspace) if self.datastores else None
            request, tell = plan_request(record.spec), self._tell_from_thread
            scans = self._scanning.of(row.job_id, record.spec.workspace, limits.compute_target)
            by_nodes = ByNodes(scans, self._config.scan_above, self._config.plan_slice_bytes)
            job.planning = Planning(row, request, self._store, planned, tell, lambda: feed.ahead, remote, by_nodes)

    async def close(self) -> None:
        """Ends planning and cuts the streams; jobs stay as they are in the database, attempts with their agents."""
        self._closing = True
        streams = [stream for job in self.active.values() for stream in job.streams.values()]
        for job in self.active.values():
            if job.planning:
                job.planning.stop()
        for stream in streams:
            stream.cut()
        if streams:
            await asyncio.wait([asyncio.ensure_future(stream.ended()) for stream in streams], timeout=_CUT_END)
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
                job.feed.settle(command.indexes)
            case Seal():
                self._write(tables.seal(job.record.row.number, command.indexes))
            case Abort() | ClosePool():
                self._end_on_node(job, command)
            case RecordLoss():
                self._record_loss(job, command)
            case OpenPool():
                self._open(job, command.node_id)
            case TellState():
                self.spawn(self._tell_state(job, command.state))
            case Commit() | Discard():
                self.spawn(self._committer.end(job, report_only=isinstance(command, Discard)))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins something that lives no longer than the scheduler, which ends when this fails."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    def _write(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        """Makes it durable, then calls `then` on the loop; what the database refuses is a mistake of ours."""

        def done(error: BaseException | None) -> None:
            if error is not None:
                self._fail(error)
            elif then is not None:
                then()

        written = self._store.write(statements)
        written.add_done_callback(lambda future: self._loop.call_soon_threadsafe(done, future.exception()))

    def _dispatch(self, job: ActiveJob, command: Dispatch) -> None:
        payload = job.feed.payload
        parcels = [
            (attempt, each.index, each.tries + 1, *payload(each), each.part if each.level else 0)
            for attempt, each in command.attempts
        ]
        job.streams[command.node_id].send(parcels)

    def _open(self, job: ActiveJob, node_id: str) -> None:
        """Opens a stream once the database knows that the node may hold something of the job."""
        node, row = self.nodes.get(node_id), job.record.row
        if node is None or node_id in job.streams:  # it is on its way out, or the stream before has not ended yet
            self._loop.call_soon(self.tell, StreamEnded(row.job_id, node_id, broken=True))
            return
        opening = agent_pb2.OpenPool(
            job_id=row.job_id,
            spec=job.record.spec,
            storage_address=self.storage_address,
            processes=job.record.spec.process_count_per_node,
            epoch=self._stamp,
            lease=self._config.lease,
            life=row.life,
        )
        opening.spec.input_kind = job_pb2.InputKind.ValueType(row.input_kind)
        on_record = asyncio.wrap_future(self._store.write(tables.add_serving(row.number, node_id)))
        job.streams[node_id] = NodeStream(
            node.channel,
            opening,
            on_record,
            partial(self._hearing.response, job, node_id),
            partial(self._hearing.end, job, node_id),
        )

    @staticmethod
    def _end_on_node(job: ActiveJob, command: Abort | ClosePool) -> None:
        stream = job.streams.get(command.node_id)
        if stream is None:
            return
        if isinstance(command, Abort):
            stream.abort(command.attempts)
        elif command.abort:
            stream.abort_all()
        else:
            stream.finish()

    def _record_loss(self, job: ActiveJob, command: RecordLoss) -> None:
        """The outcome of an attempt whose node cannot tell it any more."""
        attempt, failure, state = command.attempt_id, command.failure, job.record.state
        if state is None or attempt not in state.running:
            return
        row = failed_outcome(job.record.row.number, state, attempt, command.node_id, failure)
        ended = AttemptsEnded(command.job_id, [AttemptEnd(attempt, failure=failure)])
        self._write(tables.add_outcomes([row]), partial(self.tell, ended))

    def _on_planned(self, job: ActiveJob, grew: PlanGrew, rows: list[PlanRow]) -> None:
        """The next piece of the plan is durable."""
        if self.active.get(grew.job_id) is job:
            self.tell(grew)
            job.feed.grown(grew.mini_batches, rows)

    # ---- states and outputs ----

    async def _tell_state(self, job: ActiveJob, state: State) -> None:
        """Durable before told: the row that clients see changes once the database has it."""
        record = job.record
        row = record.frozen()
        row.state = int(state)
        row.started = row.started or (time.time() if state is State.RUNNING else None)
        row.cancelled = int(record.state is not None and record.state.cancelled)
        statements: list[Statement] = []
        if state in FINAL:
            row.ended = time.time()
            statements = tables.forget_serving(row.number)
        await asyncio.wrap_future(self._store.write([*tables.set_state(row), *statements]))
        record.row = row
        if state in FINAL:
            self._forget(job)
            self.on_end(row.job_id)
        record.changed()

    def _forget(self, job: ActiveJob) -> None:
        job_id = job.record.row.job_id
        job.record.state = None
        job.feed.close()
        if self.active.get(job_id) is job:
            self._machine.forget(job_id)
            del self.active[job_id]
