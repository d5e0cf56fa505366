"""What nodes say on their streams, as events: outcomes only once they are durable.

stream ──held──▶ the database knows what it is ──▶ AttemptsHeld
       ──outcomes──▶ store ──durable──▶ AttemptsEnded, acknowledged
       ──credits, pool──▶ CreditsGranted, PoolChanged
       ──its end──▶ behind all that it brought ──▶ StreamEnded
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from batchmesh.v1 import agent_pb2

from .events import (
    AttemptEnd,
    AttemptsEnded,
    AttemptsHeld,
    CreditsGranted,
    HeldAttempt,
    MiniBatchesPlanned,
    PoolChanged,
    StreamEnded,
)
from .jobs import failure_of
from .model import Failure, FailureKind, PoolPhase
from .outcomes import read_outcomes
from .store import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from .active import ActiveJob
    from .events import Event
    from .store import Store
    from .streams import NodeStream

#: Seconds that the streams of a node that leaves have to end before it is taken for gone.
_NODE_END = 5.0


class Hearing:
    """Of all streams of all jobs that are `active`. On the event loop."""

    def __init__(
        self,
        store: Store,
        active: Mapping[str, ActiveJob],
        pending_writes: int,
        tell: Callable[[Event], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """`pending_writes` messages with outcomes may be on their way to the disk at once. `fail` gets what the
        database refuses, which is a mistake of ours."""
        self._store = store
        self._active = active
        self._room = asyncio.Semaphore(pending_writes)
        self._tell = tell
        self._fail = fail
        self._loop = asyncio.get_running_loop()

    async def response(
        self, job: ActiveJob, node_id: str, stream: NodeStream, response: agent_pb2.RunMiniBatchesResponse
    ) -> None:
        """One message of a stream; the next one is heard once this is done."""
        job_id = job.record.row.job_id
        if self._active.get(job_id) is not job:  # it has ended, and perhaps goes on with other streams
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
            self._tell(PoolChanged(job_id, node_id, PoolPhase(pool.phase), pool.workers, failure, pool.held_up))
        if response.credits:
            self._tell(CreditsGranted(job_id, node_id, response.credits))
        if not failed:
            await self._on_outcomes(job, node_id, stream, response)

    def _is_heard(self, job: ActiveJob, stream: NodeStream) -> bool:
        """Whether what the stream brought still matters after what it had to wait for."""
        return self._active.get(job.record.row.job_id) is job and not stream.is_cut

    async def _on_held(self, job: ActiveJob, node_id: str, stream: NodeStream, held: agent_pb2.Held) -> None:
        """What the node has kept; what of it the Machine does not know may lie in the database."""
        attempts = [HeldAttempt(*each) for each in zip(held.attempt_id, held.mini_batch, held.part, strict=True)]
        mini_batches, isolations = await job.feed.opened_for({each.index for each in attempts})
        job_id = job.record.row.job_id
        if self._is_heard(job, stream):
            self._tell(AttemptsHeld(job_id, node_id, attempts, mini_batches, isolations))
        elif self._active.get(job_id) is job:  # the node is lost by now, and what was opened for it is open
            self._tell(MiniBatchesPlanned(job_id, mini_batches, isolations))

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
        told = read_outcomes(job.record, node_id, response.outcomes)
        event = AttemptsEnded(job.record.row.job_id, told.ends)
        done = self._store.write(told.statements())
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
            self._tell(event)
        stream.acknowledge(number)

    def end(self, job: ActiveJob, node_id: str, broken: bool) -> None:
        """Outcomes that the stream brought may still be on their way to the disk; they count before its end does."""

        written = self._store.write([])
        written.add_done_callback(
            lambda future: self._loop.call_soon_threadsafe(self._ended, future, job, node_id, broken)
        )

    def _ended(self, future: Future[None], job: ActiveJob, node_id: str, broken: bool) -> None:
        error = future.exception()
        if error is not None:
            self._fail(error)
            return
        del job.streams[node_id]
        job_id = job.record.row.job_id
        if self._active.get(job_id) is job:
            self._tell(StreamEnded(job_id, node_id, broken))

    async def nothing_more(self, node_id: str, leaves: bool) -> None:
        """Returns once all that a node has told is counted and nothing more of it is heard. One that leaves ends its
        streams by itself, within limits."""
        streams = [job.streams[node_id] for job in self._active.values() if node_id in job.streams]
        if streams and leaves:
            await asyncio.wait([asyncio.ensure_future(stream.ended()) for stream in streams], timeout=_NODE_END)
        for stream in streams:
            stream.cut()
        await self._flushed()
