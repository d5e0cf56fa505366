"""The nodes: who has joined, where each is reached, and whether its lease runs."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from batchmesh.calls import open_channel
from batchmesh.errors import BadName
from batchmesh.v1 import scheduler_pb2

from .events import NodeDraining, NodeJoined, NodeLost
from .jobs import timestamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grpc import aio

    from .events import Event

_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(slots=True)
class Node:
    """One life of one agent. `seen` is the monotonic second of its last heartbeat."""

    node_id: str
    address: str
    slots: int
    workers: int
    draining: bool
    seen: float
    joined_at: float
    seen_at: float
    channel: aio.Channel


class Nodes:
    """Takes heartbeats and turns them into events; judges leases, but only once it has itself been awake for one."""

    def __init__(self, lease: float, tell: Callable[[Event], None], settled: Callable[[str], Awaitable[None]]) -> None:
        """`settled` returns once all that a node that leaves has told is counted."""
        self._lease = lease
        self._tell = tell
        self._settled = settled
        self._nodes: dict[str, Node] = {}
        self._awake_since = time.monotonic()
        self._last_judged = self._awake_since

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, node_id: str) -> Node | None:
        return self._nodes.get(node_id)

    async def beat(self, request: scheduler_pb2.HeartbeatRequest) -> None:
        """One heartbeat. Raises BadName for a node id that could not be a folder's name."""
        if not _NODE_ID.fullmatch(request.node_id):
            raise BadName(f"'{request.node_id}' is no node id; use letters, digits, '.', '_' and '-', at most 128.")
        if request.leaving:
            await self._settled(request.node_id)
            await self._lose(request.node_id, "left")
            return
        node = self._nodes.get(request.node_id)
        if node is None:
            node = self._join(request)
        node.seen, node.seen_at, node.workers = time.monotonic(), time.time(), request.workers
        if request.draining and not node.draining:
            node.draining = True
            self._tell(NodeDraining(node.node_id))

    async def judge(self) -> None:
        """Gives up nodes whose lease has run out. Called several times a lease; a gap means that we were not awake."""
        now = time.monotonic()
        if now - self._last_judged > self._lease / 3:
            self._awake_since = now
        self._last_judged = now
        if now - self._awake_since < self._lease:
            return
        for node in list(self._nodes.values()):
            if now - node.seen > self._lease:
                await self._lose(node.node_id, f"no heartbeat for {self._lease:g} s")

    def protos(self, jobs_of: Callable[[str], list[str]]) -> list[scheduler_pb2.Node]:
        ready, draining = scheduler_pb2.Node.STATE_READY, scheduler_pb2.Node.STATE_DRAINING
        return [
            scheduler_pb2.Node(
                node_id=node.node_id,
                address=node.address,
                slots=node.slots,
                workers=node.workers,
                state=draining if node.draining else ready,
                joined=timestamp(node.joined_at),
                last_heartbeat=timestamp(node.seen_at),
                job_ids=jobs_of(node.node_id),
            )
            for node in self._nodes.values()
        ]

    async def close(self) -> None:
        for node in self._nodes.values():
            await node.channel.close()

    def _join(self, request: scheduler_pb2.HeartbeatRequest) -> Node:
        now, wall = time.monotonic(), time.time()
        node = Node(
            node_id=request.node_id,
            address=request.address,
            slots=request.slots,
            workers=request.workers,
            draining=False,
            seen=now,
            joined_at=wall,
            seen_at=wall,
            channel=open_channel(request.address),
        )
        self._nodes[node.node_id] = node
        structlog.get_logger().info("node_joined", node=node.node_id, address=node.address, slots=node.slots)
        self._tell(NodeJoined(node.node_id))
        return node

    async def _lose(self, node_id: str, why: str) -> None:
        node = self._nodes.pop(node_id, None)
        if node is None:
            return
        structlog.get_logger().warning("node_gone", node=node_id, why=why)
        self._tell(NodeLost(node_id))
        await node.channel.close()
