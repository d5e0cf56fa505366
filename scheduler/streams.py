"""One RunMiniBatches stream: mini-batches out, credits and outcomes back, neither waiting for the other.

Dispatch ──▶ send ──▶ outbox ──one write at a time, joined──▶ agent
Machine ◀── on_response ◀── one read at a time ◀───────────── agent
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import grpc
import structlog
from grpc import aio

from batchmesh.calls import MAX_MESSAGE
from batchmesh.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: One mini-batch on its way: attempt id, index, number of the try, payload, affinity.
Parcel = tuple[int, int, int, bytes, int]
#: Bytes of payload in one message at most, well below the limit with the columns beside them.
_MESSAGE_BYTES = MAX_MESSAGE // 2
#: Seconds that an agent has to end an aborted stream before the call is cut.
_ABORT_PATIENCE = 10.0


class NodeStream:
    """The stream of one job to one node, from its opening until either side has ended it.

    `on_response` is awaited for each message, `on_end` called once, after the last one.
    """

    def __init__(
        self,
        channel: aio.Channel,
        opening: agent_pb2.OpenPool,
        on_response: Callable[[agent_pb2.RunMiniBatchesResponse], Awaitable[None]],
        on_end: Callable[[], None],
    ) -> None:
        self._opening = opening
        self._on_response = on_response
        self._on_end = on_end
        self._outbox: list[Parcel] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._abort = False
        self._call = agent_pb2_grpc.AgentServiceStub(channel).RunMiniBatches(wait_for_ready=False)
        self._task = asyncio.create_task(self._run())

    def send(self, parcels: list[Parcel]) -> None:
        """Queues mini-batches; the agent's credits bound how many there can be."""
        self._outbox += parcels
        self._wake.set()

    def close(self, abort: bool) -> None:
        """Half-closes after what is queued; with `abort` the agent ends what is open and answers none of it."""
        self._abort = self._abort or abort
        self._closing = True
        self._wake.set()

    async def ended(self) -> None:
        """Returns once the stream has ended."""
        await asyncio.shield(self._task)

    async def _run(self) -> None:
        sender = asyncio.create_task(self._send_all())
        try:
            while (response := await self._call.read()) is not aio.EOF:
                await self._on_response(cast("agent_pb2.RunMiniBatchesResponse", response))
        except (aio.AioRpcError, asyncio.CancelledError, grpc.RpcError) as error:
            structlog.get_logger().warning(
                "stream_broke", job=self._opening.job_id, why=getattr(error, "details", lambda: "")() or str(error)
            )
        finally:
            self._closing = True
            self._abort = True
            self._outbox.clear()
            self._wake.set()
            await sender
            self._on_end()

    async def _send_all(self) -> None:
        try:
            await self._call.write(agent_pb2.RunMiniBatchesRequest(open=self._opening))
            while not (self._closing and (self._abort or not self._outbox)):
                await self._wake.wait()
                self._wake.clear()
                while self._outbox and not self._abort:
                    await self._call.write(self._next_request())
            if self._abort and not self._call.done():
                await self._call.write(agent_pb2.RunMiniBatchesRequest(abort_all=True))
                asyncio.get_running_loop().call_later(_ABORT_PATIENCE, self._call.cancel)
            if not self._call.done():
                await self._call.done_writing()
        except (aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            pass  # the call has ended; the reader says why

    def _next_request(self) -> agent_pb2.RunMiniBatchesRequest:
        size = count = 0
        for parcel in self._outbox:
            size += len(parcel[3]) + 32
            if count and size > _MESSAGE_BYTES:
                break
            count += 1
        parcels, self._outbox = self._outbox[:count], self._outbox[count:]
        attempts, indexes, tries, payloads, affinities = zip(*parcels, strict=True)
        return agent_pb2.RunMiniBatchesRequest(
            dispatch=agent_pb2.Dispatch(
                attempt_id=attempts, mini_batch=indexes, try_number=tries, payload=payloads, affinity=affinities
            )
        )
