"""The node's sign of life: it joins the mesh with the first one, and each renews its lease."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import grpc
import structlog

from batchmesh import calls, status
from batchmesh.v1 import scheduler_pb2, scheduler_pb2_grpc

if TYPE_CHECKING:
    from .config import Config
    from .job import Node

_BACKOFF_FIRST = 0.1
_BACKOFF_LAST = 2.0
#: Seconds for one heartbeat: a late one is better sent again.
_DEADLINE = 5.0

log = structlog.get_logger()


class Heartbeat:
    """Sends heartbeats until it leaves. An absent scheduler is asked again forever: it may be starting."""

    def __init__(self, config: Config, node: Node, address: str, replaces: str = "") -> None:
        """`address` is where the scheduler reaches this agent; `replaces` the node that had its work folder before."""
        self._config = config
        self._node = node
        self._address = address
        self._replaces = replaces
        self._channel = calls.open_channel(config.scheduler)
        self._scheduler: scheduler_pb2_grpc.SchedulerServiceAsyncStub = scheduler_pb2_grpc.SchedulerServiceStub(
            self._channel
        )
        self._now = asyncio.Event()
        self._leaving = False
        self._deadline = _DEADLINE
        self._task = asyncio.create_task(self._run())
        #: host:port or unix:path of the mesh's storage; empty until the scheduler has answered once.
        self.storage_address = ""

    def soon(self) -> None:
        """Something has changed that the scheduler should hear of before the next heartbeat is due."""
        self._now.set()

    async def leave(self) -> None:
        """The last heartbeat: the node is going. One that is not answered costs the mesh a lease."""
        self._leaving = True
        self._now.set()
        await self._task
        with contextlib.suppress(grpc.RpcError):
            await self._beat(leaving=False)  # what the streams said last is heard before their node is gone
            await self._beat(leaving=True)
        await self._channel.close()

    async def _run(self) -> None:
        backoff, last, joined = _BACKOFF_FIRST, _BACKOFF_LAST, False
        await calls.until_listening(self._config.scheduler)
        while not self._leaving:
            try:
                response = await self._beat(leaving=False)
            except grpc.RpcError as error:
                level = log.warning if joined else log.info
                level("scheduler_unreachable", error=str(status.from_rpc_error(error, "The scheduler")))
                wait, backoff, joined = backoff, min(last, backoff * 2), False
            else:
                self.storage_address = response.storage_address
                if not joined:
                    log.info("joined", scheduler=self._config.scheduler, storage=response.storage_address)
                # A scheduler that comes back hears of its nodes before leases end, however short these are.
                wait = response.heartbeat_interval or _BACKOFF_LAST
                last = min(_BACKOFF_LAST, wait)
                self._deadline = min(_DEADLINE, max(1.0, response.lease / 3))
                backoff, joined = _BACKOFF_FIRST, True
            await self._woken_within(wait * random.uniform(0.9, 1.0))  # noqa: S311 spread, not secrecy

    async def _woken_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._now.wait(), seconds)
        self._now.clear()

    async def _beat(self, *, leaving: bool) -> scheduler_pb2.HeartbeatResponse:
        request = scheduler_pb2.HeartbeatRequest(
            node_id=self._config.node_id,
            address=self._address,
            slots=self._config.slots,
            workers=self._node.pools.workers,
            draining=self._node.draining,
            leaving=leaving,
            replaces=self._replaces,
            compute_target=self._config.compute_target,
        )
        return await self._scheduler.Heartbeat(request, timeout=self._deadline)
