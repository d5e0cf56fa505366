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

import structlog

from batchmesh.v1 import agent_pb2, job_pb2

from . import tables
from .active import ActiveJob
from .clock import AwakeClock
from .committer import Committer
from .events import (
    Abort,
    AttemptEnd,
    AttemptsEnded,
    AttemptsHeld,
    ClosePool,
    Commit,
    CreditsGranted,
    Discard,
    Dispatch,
    HeldAttempt,
    JobSubmitted,
    MiniBatchesPlanned,
    NodeLost,
    OpenPool,
    PoolChanged,
    RecordLoss,
    Seal,
    Settle,
    StreamEnded,
    TellState,
    Ticked,
)
from .feeding import Feed
from .jobs import failure_of
from .model import FINAL, Counts, Failure, FailureKind, PoolPhase, State
from .nodes import Nodes
from .outcomes import failed_outcome, read_outcomes
from .planning import Planning
from .spec import limits_of, plan_request
from .store import Conflict
from .streams import NodeStream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

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
#: Seconds that the streams of a node that leaves have to end before it is taken for gone.
_NODE_END = 5.0
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
        self._room = asyncio.Semaphore(config.pending_writes)
        self._closing = False
        self._clock = AwakeClock(config.lease / 3)
        #: Done, with the error, when the scheduler can only start again.
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self.storage_address = ""
        self.nodes = Nodes(config.lease, self.tell, self._unheard, self.spawn)
        self.active: dict[str, ActiveJob] = {}
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
            job.planning = Planning(row, request, self._store, planned, tell, remote)

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
            partial(self._on_response, job, node_id),
            partial(self._on_end, job, node_id),
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

    # ---- what nodes say ----

    async def _on_response(
        self, job: ActiveJob, node_id: str, stream: NodeStream, response: agent_pb2.RunMiniBatchesResponse
    ) -> None:
        job_id = job.record.row.job_id
        if self.active.get(job_id) is not job:  # it has ended, and perhaps goes on with other streams
            stream.acknowledge(stream.received)
            return
        if response.HasField("held"):
            await self._on_held(job, node_id, stream, response.held)
        pool = response.pool if response.HasField("pool") else None
        failed = pool is not None and pool.phase == agent_pb2.PoolStatus.PHASE_FAILED
        if failed:  # all that it has told counts before its attempts are taken for lost
            await self._on_outcomes(job, node_id, stream, response)
            await self._flushed()
        if not self._is_heard(job, stream):
            return
        if pool is not None:
            failure = failure_of(pool.failure) if pool.HasField("failure") else None
            self.tell(PoolChanged(job_id, node_id, PoolPhase(pool.phase), pool.workers, failure, pool.held_up))
        if response.credits:
            self.tell(CreditsGranted(job_id, node_id, response.credits))
        if not failed:
            await self._on_outcomes(job, node_id, stream, response)

    def _is_heard(self, job: ActiveJob, stream: NodeStream) -> bool:
        """Whether what the stream brought still matters after what it had to wait for."""
        return self.active.get(job.record.row.job_id) is job and not stream.is_cut

    async def _on_held(self, job: ActiveJob, node_id: str, stream: NodeStream, held: agent_pb2.Held) -> None:
        """What the node has kept; what of it the Machine does not know may lie in the database."""
        attempts = [HeldAttempt(*each) for each in zip(held.attempt_id, held.mini_batch, held.part, strict=True)]
        mini_batches, isolations = await job.feed.opened_for({each.index for each in attempts})
        job_id = job.record.row.job_id
        if self._is_heard(job, stream):
            self.tell(AttemptsHeld(job_id, node_id, attempts, mini_batches, isolations))
        elif self.active.get(job_id) is job:  # the node is lost by now, and what was opened for it is open
            self.tell(MiniBatchesPlanned(job_id, mini_batches, isolations))

    async def _on_outcomes(
        self, job: ActiveJob, node_id: str, stream: NodeStream, response: agent_pb2.RunMiniBatchesResponse
    ) -> None:
        """Makes outcomes durable, then tells and acknowledges them; nobody's fault is told without a trace.

        What is on its way to the disk is out at that node: it is given up only behind the disk, by a stream's end, a
        node's loss or a pool's failure.
        """
        if not response.HasField("outcomes"):
            return
        number = stream.received
        await self._room.acquire()
        if stream.is_cut:  # while there was no room; it is told again on another stream
            self._room.release()
            return
        rows, ends = read_outcomes(job.record, node_id, response.outcomes)
        event = AttemptsEnded(job.record.row.job_id, ends)
        done = self._store.write(tables.add_outcomes(rows) if rows else [])
        done.add_done_callback(
            lambda future: self._loop.call_soon_threadsafe(self._durable, future, event, stream, number)
        )

    async def _flushed(self) -> None:
        """Returns once all that was written before is durable and told."""
        await asyncio.wrap_future(self._store.write([]))

    def _durable(self, future: Future[None], event: AttemptsEnded, stream: NodeStream, number: int) -> None:
        self._room.release()
        error = future.exception()
        if isinstance(error, Conflict):  # an agent told what cannot be: it costs the attempts of this message
            structlog.get_logger().error("outcomes_not_written", job=event.job_id, why=str(error))
            lost = Failure(FailureKind.NOT_STARTED, str(error))
            event = AttemptsEnded(event.job_id, [AttemptEnd(end.attempt_id, failure=lost) for end in event.ends])
        elif error is not None:
            self._fail(error)
            return
        if event.ends:
            self.tell(event)
        stream.acknowledge(number)

    def _on_end(self, job: ActiveJob, node_id: str, broken: bool) -> None:
        """Outcomes that the stream brought may still be on their way to the disk; they count before its end does."""

        def ended() -> None:
            del job.streams[node_id]
            job_id = job.record.row.job_id
            if self.active.get(job_id) is job:
                self.tell(StreamEnded(job_id, node_id, broken))

        self._write([], ended)

    async def _unheard(self, node_id: str, leaves: bool) -> None:
        """Returns once all that a node has told is counted and nothing more of it is heard. One that leaves ends its
        streams by itself, within limits."""
        streams = [job.streams[node_id] for job in self.active.values() if node_id in job.streams]
        if streams and leaves:
            await asyncio.wait([asyncio.ensure_future(stream.ended()) for stream in streams], timeout=_NODE_END)
        for stream in streams:
            stream.cut()
        await self._flushed()

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
