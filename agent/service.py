"""The agent's one call: a job's mini-batches come in, their outcomes go out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from batchmesh import errors
from batchmesh.v1 import agent_pb2, agent_pb2_grpc

from .job import JobStream, Node
from .opening import understood

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from grpc import aio

    from .config import Config
    from .storages import Storages

SERVICE_NAME = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name

log = structlog.get_logger()


class AgentService(agent_pb2_grpc.AgentServiceServicer):
    """One JobStream for each call, and the clock that holds their attempts against their limits."""

    def __init__(self, config: Config, node: Node, storages: Storages) -> None:
        self._config = config
        self._node = node
        self._storages = storages
        self._jobs: dict[str, JobStream] = {}
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
        job = self._open(await _first(requests))
        self._spawn(_read(requests, job))
        try:
            async for response in job.responses():
                yield response
        finally:
            self._jobs.pop(job.job_id, None)
            self._spawn(job.close())

    def _open(self, request: agent_pb2.RunMiniBatchesRequest | None) -> JobStream:
        if request is None or not request.open.job_id:
            raise errors.NoPool("The first request of the stream has to open a pool for a job.")
        opened = request.open
        if self._node.draining:
            raise errors.NodeDraining(f"Node {self._config.node_id} is going and takes no more jobs.")
        if opened.job_id in self._jobs:
            raise errors.StreamExists(f"Node {self._config.node_id} already serves job {opened.job_id}.")
        log.info("job_opened", job=opened.job_id, script=opened.spec.entry_script)
        opening = understood(opened, self._config.slots, self._config.max_result_bytes)
        job = JobStream(self._node, self._storages.at(opening.storage_address), opening)
        self._jobs[opening.job_id] = job
        _take(request, job)
        return job

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @property
    def serving(self) -> bool:
        """Whether a stream is open."""
        return bool(self._jobs)

    @property
    def idle(self) -> bool:
        """No job has anything open or untold here."""
        return all(each.idle for each in self._jobs.values())

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


async def _read(requests: AsyncIterator[agent_pb2.RunMiniBatchesRequest], job: JobStream) -> None:
    """Ends with the stream: by the scheduler's half-close, or because it broke, which its responses notice too."""
    with contextlib.suppress(grpc.RpcError, asyncio.CancelledError):
        async for request in requests:
            _take(request, job)
        job.half_close()


def _take(request: agent_pb2.RunMiniBatchesRequest, job: JobStream) -> None:
    """What the scheduler sent, the opening aside."""
    if request.HasField("dispatch"):
        columns = request.dispatch
        ids = columns.attempt_id
        affinities = columns.affinity or (0,) * len(ids)
        job.dispatch(zip(ids, columns.mini_batch, columns.try_number, columns.payload, affinities, strict=True))
    if request.abort_all:
        job.end_all()
    elif request.abort:
        job.abort(request.abort)
