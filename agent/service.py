"""The agent's calls: a job's mini-batches come in and their outcomes go out; a table is looked into."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from batchmesh import errors
from batchmesh.v1 import agent_pb2, agent_pb2_grpc

from .job import Job, Node
from .opening import understood

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from grpc import aio

    from .attachment import Attachment
    from .config import Config
    from .opening import Opening
    from .scanning import Scanning
    from .storages import Storages

SERVICE_NAME = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name

log = structlog.get_logger()


class AgentService(agent_pb2_grpc.AgentServiceServicer):
    """The jobs of this node, the calls that lead to them, and the clock that holds attempts against their limits."""

    def __init__(self, config: Config, node: Node, storages: Storages, scanning: Scanning) -> None:
        self._config = config
        self._node = node
        self._storages = storages
        self._scanning = scanning
        self._jobs: dict[str, Job] = {}
        #: The latest start of the scheduler that was here.
        self._epoch = 0
        self._background: set[asyncio.Task[None]] = set()

    def register(self, server: aio.Server) -> None:
        agent_pb2_grpc.add_AgentServiceServicer_to_server(self, server)

    async def RunMiniBatches(
        self,
        request_iterator: AsyncIterator[agent_pb2.RunMiniBatchesRequest],
        context: aio.ServicerContext[agent_pb2.RunMiniBatchesRequest, agent_pb2.RunMiniBatchesResponse],
    ) -> AsyncIterator[agent_pb2.RunMiniBatchesResponse]:
        del context
        requests = aiter(request_iterator)
        attachment = self._attach(await _first(requests))
        self._spawn(_read(requests, attachment))
        try:
            async for response in attachment.responses():
                yield response
        finally:
            attachment.detach()

    async def ScanTable(
        self,
        request: agent_pb2.ScanTableRequest,
        context: aio.ServicerContext[agent_pb2.ScanTableRequest, agent_pb2.ScanTableResponse],
    ) -> agent_pb2.ScanTableResponse:
        del context
        return await self._scanning.scan(request, self._storages.at(request.storage_address))

    def _attach(self, request: agent_pb2.RunMiniBatchesRequest | None) -> Attachment:
        if request is None or not request.open.job_id:
            raise errors.NoPool("The first request of the stream has to open a pool for a job.")
        opened = request.open
        if opened.epoch < self._epoch:
            raise errors.StaleScheduler(
                f"Node {self._config.node_id} has met start {self._epoch} of the scheduler, and start {opened.epoch} "
                "is over; start the agent again if the scheduler has a new state folder."
            )
        self._epoch = opened.epoch
        opening = understood(opened, self._config.processes, self._config.max_result_bytes)
        attachment = self._job(opening).attach(opened.lease)
        _take(request, attachment)
        return attachment

    def _job(self, opening: Opening) -> Job:
        """The job as this node has it, or a new one. Another life of it, or other settings, begin anew."""
        held = self.job(opening.job_id)
        if held is not None and held.opening == opening and not held.ending:
            log.info("job_taken_up", job=opening.job_id)
            return held
        if self._node.draining:
            raise errors.NodeDraining(f"Node {self._config.node_id} is going and takes no more jobs.")
        if held is not None:
            held.lose_scheduler("it is another job of that id, or goes on with other settings")
        log.info("job_opened", job=opening.job_id, script=opening.key.entry_script)
        job = Job(self._node, self._storages.at(opening.storage_address), opening, self._forget)
        self._jobs[opening.job_id] = job
        return job

    def _forget(self, job: Job) -> None:
        if self.job(job.job_id) is job:
            del self._jobs[job.job_id]

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def job(self, job_id: str) -> Job | None:
        """The job of that id, if this node has it."""
        return self._jobs.get(job_id)

    @property
    def serving(self) -> bool:
        """Whether it has a job, with or without a stream that leads to it."""
        return bool(self._jobs)

    @property
    def idle(self) -> bool:
        """No job has anything open, untold or unacknowledged here."""
        return all(each.idle for each in self._jobs.values())

    async def end_jobs(self) -> None:
        """Ends every job that is left, whatever is open of it; returns when their logs are with storage.

        One that has no end within shutdown_timeout is left alone.
        """
        ending = [each.end_all() for each in self._jobs.values()]
        if ending:
            await asyncio.wait(ending, timeout=self._config.shutdown_timeout)

    async def tick_forever(self) -> None:
        """The clock. A tick that comes very late means that the agent was paused, and its deadlines move by that."""
        interval = self._config.tick
        due = time.monotonic() + interval
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic_ns()
            late = now / 1e9 - due
            pause_ns = int(late * 1e9) if late > self._config.pause_threshold else 0
            for job in list(self._jobs.values()):
                job.tick(now, pause_ns)
            self._node.pools.end_idle()
            due = time.monotonic() + interval


async def _first(requests: AsyncIterator[agent_pb2.RunMiniBatchesRequest]) -> agent_pb2.RunMiniBatchesRequest | None:
    return await anext(requests, None)


async def _read(requests: AsyncIterator[agent_pb2.RunMiniBatchesRequest], attachment: Attachment) -> None:
    """Ends with the stream, however it ends; one that the job has not been ended over is a break."""
    try:
        with contextlib.suppress(grpc.RpcError, grpc.aio.UsageError, asyncio.CancelledError):
            async for request in requests:
                _take(request, attachment)
    finally:
        attachment.detach()


def _take(request: agent_pb2.RunMiniBatchesRequest, attachment: Attachment) -> None:
    """What the scheduler sent, the opening aside."""
    if request.HasField("dispatch"):
        attachment.dispatch(_mini_batches(request.dispatch))
    if request.abort:
        attachment.abort(request.abort)
    if request.acknowledged:
        attachment.acknowledge(request.acknowledged)
    if request.abort_all:
        attachment.abort_all()
    if request.finish:
        attachment.finish()


def _mini_batches(columns: agent_pb2.Dispatch) -> list[tuple[int, int, int, bytes, int, int]]:
    ids = columns.attempt_id
    zeros = (0,) * len(ids)
    rest = columns.affinity or zeros, columns.part or zeros
    return list(zip(ids, columns.mini_batch, columns.try_number, columns.payload, *rest, strict=True))
