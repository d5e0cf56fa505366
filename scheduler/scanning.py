"""Has nodes look into tables for planning threads.

    planning thread ──ask──▶ event loop ──a free node of the job's compute target──▶ ScanTable ──▶ agent
                    ◀──answer, in whatever order──┘   └─ lost, or failed: another one

Two requests at most are with one node, of all jobs together, so that its workers keep the cores.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import structlog

from batchmesh.errors import BatchmeshError, DatastoreFailed, MeshUnreachable, Refused
from batchmesh.scan_messages import request_of, told_in
from batchmesh.status import from_rpc_error
from batchmesh.v1 import agent_pb2, agent_pb2_grpc

from .events import PlanningHeldUp

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from grpc import aio

    _Call = aio.UnaryUnaryCall[agent_pb2.ScanTableRequest, agent_pb2.ScanTableResponse]

    from batchmesh.data.plan_slices import PlanSlice, TableFile, Told, Wanted

    from .events import Event
    from .nodes import Node, Nodes

#: Requests that are with one node at once.
_ON_A_NODE = 2
#: Seconds in which a node answers whatever it is asked, and bytes a second that it reads at least.
_DEADLINE, _SLOWEST = 120.0, 2**20
#: Nodes that a request is given to before planning fails with what the last one said: a datastore that does not answer
#: has been asked for a minute by each; other failures are a node's own, or those of storage behind it.
_DATASTORE_TRIES, _TRIES = 3, 20
#: Seconds before a request is given to a node again, longer after each failure; and between two looks for a node.
_AGAIN, _LONGEST, _LOOK = 0.2, 10.0, 0.2


class Scanning:
    """Lives on the event loop; what it gives is for planning threads."""

    def __init__(self, nodes: Nodes, tell: Callable[[Event], None], storage_address: Callable[[], str]) -> None:
        """`tell` hears what holds planning up."""
        self._nodes = nodes
        self._tell = tell
        self._storage_address = storage_address
        self._out: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def of(self, job_id: str, workspace: str, compute_target: str) -> JobScans:
        """What a job's planning asks, on nodes that serve it."""
        return JobScans(self, job_id, workspace, compute_target)

    async def scan(self, job: JobScans, request: agent_pb2.ScanTableRequest) -> agent_pb2.ScanTableResponse:
        """Errors: what a node has said of the file's datastore, or the last one of all that have failed."""
        failed: list[BatchmeshError] = []
        avoided: set[str] = set()
        while True:
            node_id, call = await self._begun(job, request, avoided)
            try:
                response = await _answer(call)
            except BatchmeshError as error:
                failed.append(error)
                avoided.add(node_id)
                structlog.get_logger().warning("scan_failed", job=job.job_id, node=node_id, why=str(error))
                if not _may_be_tried_again(failed):
                    raise
                self.hold(job, f"looking into the input failed and is tried again: {error}")
            else:
                self.hold(job, "")
                return response
            finally:
                self._ended(node_id)
            await asyncio.sleep(min(_AGAIN * 2 ** (len(failed) - 1), _LONGEST))

    async def _begun(self, job: JobScans, request: agent_pb2.ScanTableRequest, avoided: set[str]) -> tuple[str, _Call]:
        """The request is on its way to that node, which is one of `avoided` only if there is no other."""
        async with job.turn:
            node = await self._next_node(job, avoided)
            self._out[node.node_id] += 1
        request.storage_address = self._storage_address()
        call = agent_pb2_grpc.AgentServiceStub(node.channel).ScanTable(request, timeout=_deadline(request))
        return node.node_id, call

    async def _next_node(self, job: JobScans, avoided: set[str]) -> Node:
        while (node := self._free_node(job, avoided)) is None:
            if not self._serving(job):
                self.hold(job, "its input waits for a node that can look into it")
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK)
        if not avoided:
            self.hold(job, "")
        return node

    def _serving(self, job: JobScans) -> list[Node]:
        return [node for node in self._nodes.serving(job.compute_target) if not node.draining]

    def _free_node(self, job: JobScans, avoided: set[str]) -> Node | None:
        """The one that has the least to do."""
        free = [node for node in self._serving(job) if self._out[node.node_id] < _ON_A_NODE]
        return min(free, key=lambda node: (node.node_id in avoided, self._out[node.node_id]), default=None)

    def _ended(self, node_id: str) -> None:
        self._out[node_id] -= 1
        if not self._out[node_id]:
            del self._out[node_id]
        self._changed.set()

    def hold(self, job: JobScans, why: str) -> None:
        """Says what holds the job's planning up; an empty text says that nothing does."""
        if job.held_up != why:
            job.held_up = why
            self._tell(PlanningHeldUp(job.job_id, why))


class JobScans:
    """Asks for one job, until it is stopped. `held_up` is what holds its planning up, "" when nothing does."""

    def __init__(self, scanning: Scanning, job_id: str, workspace: str, compute_target: str) -> None:
        self.job_id = job_id
        self.compute_target = compute_target
        self.held_up = ""
        #: Held by the one request that looks for a node; the others come after it.
        self.turn = asyncio.Lock()
        self._scanning = scanning
        self._workspace = workspace
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._stopped = False
        self._out: set[Future[agent_pb2.ScanTableResponse]] = set()

    def __call__(self, file: TableFile, wanted: Wanted | PlanSlice) -> Answer:
        """Asks, from any thread but the event loop's. Errors: CancelledError once it is stopped."""
        request = request_of(file, wanted)
        request.workspace = self._workspace
        with self._lock:
            if self._stopped:
                raise CancelledError
            answer = asyncio.run_coroutine_threadsafe(self._scanning.scan(self, request), self._loop)
            self._out.add(answer)
        answer.add_done_callback(self._forget)
        return Answer(answer)

    def stop(self) -> None:
        """Who waits for an answer gets CancelledError. From any thread, again and again."""
        with self._lock:
            self._stopped = True
            out = list(self._out)
        for each in out:
            each.cancel()

    def _forget(self, answer: Future[agent_pb2.ScanTableResponse]) -> None:
        with self._lock:
            self._out.discard(answer)


class Answer:
    """As splitting.Asked says."""

    def __init__(self, response: Future[agent_pb2.ScanTableResponse]) -> None:
        self._response = response

    def result(self) -> Told:
        return told_in(self._response.result())

    def done(self) -> bool:
        return self._response.done()

    def cancel(self) -> None:
        self._response.cancel()


async def _answer(call: _Call) -> agent_pb2.ScanTableResponse:
    """Errors: BatchmeshError, also for a call that ended because its node was lost."""
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc_error(error, "The node") from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise MeshUnreachable("The node was lost.") from None


def _may_be_tried_again(failed: list[BatchmeshError]) -> bool:
    """What is refused would be refused elsewhere."""
    if isinstance(failed[-1], Refused):
        return False
    of_datastore = sum(isinstance(each, DatastoreFailed) for each in failed)
    return of_datastore < _DATASTORE_TRIES and len(failed) < _TRIES


def _deadline(request: agent_pb2.ScanTableRequest) -> float:
    """Seconds, by the bytes that have to be read."""
    if request.HasField("slice"):
        return _DEADLINE + (request.slice.end - request.slice.start) / _SLOWEST
    return _DEADLINE + (request.size / _SLOWEST if request.wanted == request.WANTED_CUTS else 0.0)
