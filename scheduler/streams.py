"""One RunMiniBatches stream: mini-batches out, credits and outcomes back, neither waiting for the other.

    Dispatch ──▶ send ──▶ outbox ──one write at a time, joined──▶ agent
    Machine ◀── on_response ◀── one read at a time ◀───────────── agent
    durable ──▶ acknowledge ──with whatever leaves, or 50 ms later──▶ agent

It ends in order when the agent ends it after `finish` or `abort_all`; any other end is a break, and the agent keeps
what it has for the next stream. Nothing here half-closes the call: acknowledgements have to follow `finish`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import structlog
from grpc import aio

from batchmesh.calls import MAX_MESSAGE
from batchmesh.errors import Refused
from batchmesh.status import from_rpc_error
from batchmesh.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    _Call = aio.StreamStreamCall[agent_pb2.RunMiniBatchesRequest, agent_pb2.RunMiniBatchesResponse]

#: One mini-batch, or a part of one, on its way: attempt id, index, number of the try, payload, affinity, part.
Parcel = tuple[int, int, int, bytes, int, int]
#: Bytes of payload in one message at most, well below the limit with the columns beside them.
_MESSAGE_BYTES = MAX_MESSAGE // 2
#: Seconds for which an acknowledgement waits for something to travel with.
_ACKNOWLEDGED_WITHIN = 0.05
#: Seconds that an agent has to end an aborted stream, and one that is finished with nothing open, before it is cut.
_ABORT_PATIENCE = 10.0
_FINISH_PATIENCE = 60.0


class NodeStream:
    """The stream of one job to one node, from its opening until either side has ended it.

    It is opened once `after` is done. `on_response` is awaited for each message; `on_end` is called once, after the
    last one, with whether the stream broke.
    """

    def __init__(
        self,
        channel: aio.Channel,
        opening: agent_pb2.OpenPool,
        after: Awaitable[None],
        on_response: Callable[[NodeStream, agent_pb2.RunMiniBatchesResponse], Awaitable[None]],
        on_end: Callable[[bool], None],
    ) -> None:
        self._opening = opening
        self._on_response = on_response
        self._on_end = on_end
        self._outbox: list[Parcel] = []
        self._aborts: list[int] = []
        #: Attempts that the agent has, as far as we know.
        self._open: set[int] = set()
        self._wake = asyncio.Event()
        self._finishing = self._finish_sent = False
        self._aborting = self._abort_sent = False
        #: Responses with outcomes: come, durable, acknowledged.
        self.received = 0
        self._durable = self._acknowledged = 0
        self._acknowledging: asyncio.TimerHandle | None = None
        self._due = False
        self._patience: asyncio.TimerHandle | None = None
        #: Done when we cut the stream ourselves; whether that counts as a break.
        self._cut: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(agent_pb2_grpc.AgentServiceStub(channel), after))

    # ---- what the dispatcher asks for ----

    def send(self, parcels: list[Parcel]) -> None:
        """Queues mini-batches; the agent's credits bound how many there can be."""
        self._outbox += parcels
        self._open.update(parcel[0] for parcel in parcels)
        self._wake.set()

    def abort(self, attempts: Iterable[int]) -> None:
        """Has the agent end these attempts; those that have not left yet never do."""
        unwanted = set(attempts)
        unsent = {parcel[0] for parcel in self._outbox} & unwanted
        self._outbox = [parcel for parcel in self._outbox if parcel[0] not in unsent]
        self._aborts += unwanted - unsent
        self._open -= unwanted
        self._wake.set()
        self._begin_patience()

    def acknowledge(self, number: int) -> None:
        """The first `number` responses with outcomes are durable."""
        self._durable = max(self._durable, number)
        if self._finishing:
            self._acknowledge_now()
        elif self._acknowledging is None:
            loop = asyncio.get_running_loop()
            self._acknowledging = loop.call_later(_ACKNOWLEDGED_WITHIN, self._acknowledge_now)
        self._begin_patience()

    def finish(self) -> None:
        """There are no more mini-batches after those queued: the agent ends the stream when all is answered."""
        self._finishing = True
        self._acknowledge_now()
        self._begin_patience()

    def abort_all(self) -> None:
        """The agent ends all that is open, answers none of it and ends the stream."""
        if self._aborting:
            return
        self._aborting = True
        self._outbox.clear()
        self._wake.set()
        if self._patience is not None:
            self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(_ABORT_PATIENCE, self._lose_patience)

    def cut(self) -> None:
        """Ends the stream here and now; the agent goes on with what it has."""
        self._cut_off(broken=True)

    @property
    def is_cut(self) -> bool:
        """Whether nothing that comes on it is heard any more."""
        return self._cut.done()

    async def ended(self) -> None:
        """Returns once the stream has ended."""
        await asyncio.shield(self._task)

    # ---- the life of the call ----

    async def _run(self, stub: agent_pb2_grpc.AgentServiceAsyncStub, after: Awaitable[None]) -> None:
        broken = True
        try:
            broken = await self._opened(stub, after)
        except Exception:  # noqa: BLE001 a mistake of ours may cost this stream, and no more
            structlog.get_logger().exception("stream_failed", job=self._opening.job_id)
        finally:
            for timer in (self._acknowledging, self._patience):
                if timer is not None:
                    timer.cancel()
            self._on_end(broken)

    async def _opened(self, stub: agent_pb2_grpc.AgentServiceAsyncStub, after: Awaitable[None]) -> bool:
        """Speaks with the agent once `after` is done; returns whether the stream broke."""
        before = asyncio.ensure_future(after)
        either: list[asyncio.Future[Any]] = [before, self._cut]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._cut.done():
            before.cancel()
            return self._cut.result()
        before.result()
        call = stub.RunMiniBatches(wait_for_ready=False)
        self._cut.add_done_callback(lambda _: call.cancel())
        sender = asyncio.create_task(self._send_all(call))
        try:
            return await self._read_all(call)
        finally:
            self._cut_off(broken=True)
            self._wake.set()
            await sender

    async def _read_all(self, call: _Call) -> bool:
        try:
            while (response := await call.read()) is not aio.EOF:
                await self._take(cast("agent_pb2.RunMiniBatchesResponse", response))
        except aio.AioRpcError as error:
            return self._broke(error)
        except asyncio.CancelledError:
            if not self._cut.done():
                raise
            return self._cut.result()
        return not (self._finish_sent or self._abort_sent)

    def _broke(self, error: aio.AioRpcError) -> bool:
        why = from_rpc_error(error, "The agent")
        broken = not (self._aborting or isinstance(why, Refused))
        if not self._aborting:
            structlog.get_logger().warning("stream_ended", job=self._opening.job_id, broken=broken, why=str(why))
        return broken

    async def _take(self, response: agent_pb2.RunMiniBatchesResponse) -> None:
        if self._cut.done():
            return
        if response.HasField("held"):
            self._open.update(response.held.attempt_id)
        if response.HasField("outcomes"):
            self.received += 1
            self._open.difference_update(response.outcomes.attempt_id)
        await self._on_response(self, response)
        self._begin_patience()

    def _begin_patience(self) -> None:
        """Once all is answered and durable the agent has to end a finished stream, within limits."""
        if self._patience is None and self._finishing and self._is_answered:
            self._patience = asyncio.get_running_loop().call_later(_FINISH_PATIENCE, self._lose_patience)

    @property
    def _is_answered(self) -> bool:
        return not self._open and self._durable >= self.received

    def _lose_patience(self) -> None:
        self._patience = None
        if self._aborting or self._is_answered:
            self._cut_off(broken=False)

    def _cut_off(self, broken: bool) -> None:
        if not self._cut.done():
            self._cut.set_result(broken)

    # ---- the way out ----

    async def _send_all(self, call: _Call) -> None:
        try:
            await call.write(agent_pb2.RunMiniBatchesRequest(open=self._opening))
            while not self._cut.done():
                await self._wake.wait()
                self._wake.clear()
                while not self._cut.done() and (request := self._next_request()) is not None:
                    await call.write(request)
        except (aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            pass  # the call has ended; the reader says why
        except Exception:  # noqa: BLE001 as above
            structlog.get_logger().exception("sending_failed", job=self._opening.job_id)
            self._cut_off(broken=True)

    def _next_request(self) -> agent_pb2.RunMiniBatchesRequest | None:
        """What leaves next; None when there is nothing that cannot wait."""
        if self._abort_sent:
            return None
        if self._aborting:
            self._abort_sent = True
            return agent_pb2.RunMiniBatchesRequest(abort_all=True)
        dispatch = self._next_dispatch() if self._outbox else None
        aborts, self._aborts = self._aborts, []
        finish = self._finishing and not self._finish_sent and not self._outbox
        self._finish_sent = self._finish_sent or finish
        if not (dispatch or aborts or finish or self._due):
            return None
        acknowledged = self._next_acknowledgement()
        return agent_pb2.RunMiniBatchesRequest(
            dispatch=dispatch, abort=aborts, finish=finish, acknowledged=acknowledged
        )

    def _acknowledge_now(self) -> None:
        self._acknowledging = None
        self._due = self._durable > self._acknowledged
        self._wake.set()

    def _next_acknowledgement(self) -> int:
        """What is durable by now; 0 when the agent knows."""
        self._due = False
        if self._acknowledging is not None:
            self._acknowledging.cancel()
            self._acknowledging = None
        if self._durable == self._acknowledged:
            return 0
        self._acknowledged = self._durable
        return self._acknowledged

    def _next_dispatch(self) -> agent_pb2.Dispatch:
        size = count = 0
        for parcel in self._outbox:
            size += len(parcel[3]) + 40
            if count and size > _MESSAGE_BYTES:
                break
            count += 1
        parcels, self._outbox = self._outbox[:count], self._outbox[count:]
        attempts, indexes, tries, payloads, affinities, parts = zip(*parcels, strict=True)
        return agent_pb2.Dispatch(
            attempt_id=attempts,
            mini_batch=indexes,
            try_number=tries,
            payload=payloads,
            affinity=affinities,
            part=parts if any(parts) else (),
        )
