"""Many nodes in one process, for a benchmark of the scheduler: each joins, beats and has its streams over real gRPC,
and answers each mini-batch at once with a success that has given no row.

    scheduler ──RunMiniBatches, a connection a node──▶ 127.0.0.1:port of the node ──(nothing is run)──┐
        ▲  └◀──────────────── credits, outcomes, one message for each that came ◀───────────────────────┘
        └──Heartbeat, a connection a node── each node
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from batchmesh import lifetime
from batchmesh.calls import open_channel
from batchmesh.serving import SERVER_OPTIONS
from batchmesh.v1 import agent_pb2, agent_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc
from batchmesh.v1.agent_pb2 import RunMiniBatchesRequest as Request
from batchmesh.v1.agent_pb2 import RunMiniBatchesResponse as Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Workers of each node, and mini-batches that may wait or run on it: four for each worker.
WORKERS, CREDITS = 2, 8
#: Seconds for one heartbeat.
_DEADLINE = 5.0
#: Seconds until the next one when it was not answered.
_AGAIN = 0.5


class Agents(agent_pb2_grpc.AgentServiceServicer):
    """All nodes: what a stream says does not depend on which of them it is to."""

    async def RunMiniBatches(  # noqa: N802 as gRPC calls it
        self,
        request_iterator: AsyncIterator[Request],
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[Response]:
        """One stream. A new one holds nothing: what a broken one had been sent runs again."""
        requests = aiter(request_iterator)
        await anext(requests)
        pool = agent_pb2.PoolStatus(phase=agent_pb2.PoolStatus.PHASE_READY, workers=WORKERS)
        yield Response(held=agent_pb2.Held(), pool=pool, credits=CREDITS)
        async for request in requests:
            if request.HasField("dispatch"):
                attempts = request.dispatch.attempt_id
                yield Response(credits=len(attempts), outcomes=outcomes(attempts))
            if request.finish or request.abort_all:
                return


def outcomes(attempts: Any) -> agent_pb2.Outcomes:
    """Each has succeeded with its one item, and given no row: it has no frame, and storage is asked for none."""
    none, ones, now = [0] * len(attempts), [1] * len(attempts), int(time.time() * 1e6)
    return agent_pb2.Outcomes(
        attempt_id=attempts,
        offset=none,
        length=none,
        rows=none,
        succeeded_items=ones,
        failed_items=none,
        process=none,
        started_us=[now] * len(attempts),
        run_us=ones,
        elapsed_us=ones,
    )


async def beat(node_id: str, address: str, scheduler: str, begin: float) -> None:
    """The heartbeats of one node, on a connection of its own, the first one after `begin` seconds."""
    await asyncio.sleep(begin)
    stub: scheduler_pb2_grpc.SchedulerServiceAsyncStub
    stub = scheduler_pb2_grpc.SchedulerServiceStub(open_channel(scheduler))
    request = scheduler_pb2.HeartbeatRequest(node_id=node_id, address=address, slots=WORKERS, workers=WORKERS)
    while True:
        try:
            response = await stub.Heartbeat(request, timeout=_DEADLINE)
        except grpc.RpcError:  # as a real one: the next may be heard
            await asyncio.sleep(_AGAIN)
        else:
            await asyncio.sleep(response.heartbeat_interval)


async def serve(nodes: int, scheduler: str, ready_fd: int) -> None:
    """Says on `ready_fd` that all have been told to join; never returns."""
    server = aio.server(options=SERVER_OPTIONS)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(Agents(), server)
    addresses = [f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}" for _ in range(nodes)]
    await server.start()
    async with asyncio.TaskGroup() as group:
        for number, address in enumerate(addresses):
            group.create_task(beat(f"node-{number:04}", address, scheduler, 2.0 * number / nodes))
        lifetime.announce(ready_fd, addresses[0])


def main() -> None:
    """As the mesh of a benchmark starts it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheduler", required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--end-with-parent", action="store_true")
    given = parser.parse_args()
    if given.end_with_parent:
        lifetime.end_with_parent()
    asyncio.run(serve(given.nodes, given.scheduler, given.ready_fd))


if __name__ == "__main__":
    main()
