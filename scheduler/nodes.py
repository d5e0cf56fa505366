"""The nodes: who has joined, where each is reached, and whether its lease runs."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from batchmesh.calls import open_channel
from batchmesh.errors import BadName
from batchmesh.target_name import check_target_name
from batchmesh.v1 import scheduler_pb2

from .events import NodeDraining, NodeJoined, NodeLost
from .jobs import timestamp
from .model import NO_TARGET, Belonging

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

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
    belonging: Belonging = NO_TARGET


class Nodes:
    """Takes heartbeats and turns them into events; judges leases, but only once it has itself been awake for one."""

    def __init__(
        self,
        lease: float,
        tell: Callable[[Event], None],
        unheard: Callable[[str, bool], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`unheard` gets a node and whether it leaves by itself; it returns once all that the node has told is counted
        and nothing more of it is heard. `spawn` watches over what takes its time."""
        self._lease = lease
        self._tell = tell
        self._unheard = unheard
        self._spawn = spawn
        self._nodes: dict[str, Node] = {}
        #: Nodes out of reach whose loss is not told yet; done once it is.
        self._going: dict[str, asyncio.Future[None]] = {}
        self._awake_since = time.monotonic()
        self._last_judged = self._awake_since

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, node_id: str) -> Node | None:
        return self._nodes.get(node_id)

    def of(self, compute_target: str) -> list[Node]:
        """The nodes of that compute target."""
        return [node for node in self._nodes.values() if node.belonging.compute_target == compute_target]

    def serving(self, compute_target: str) -> list[Node]:
        """The nodes that may serve jobs of that compute target, or with "", those that name none."""
        return [node for node in self._nodes.values() if node.belonging.serves(compute_target)]

    def has_any_for(self, compute_target: str) -> bool:
        """Whether there is one that may."""
        return bool(self.serving(compute_target))

    async def beat(self, request: scheduler_pb2.HeartbeatRequest, *, dedicated: bool = False) -> None:
        """One heartbeat; `dedicated` as in Belonging. Raises BadName for a node id that could not be a folder's name,
        and for what is no name of a compute target."""
        if request.compute_target:
            check_target_name(request.compute_target)
        if not _NODE_ID.fullmatch(request.node_id):
            raise BadName(f"'{request.node_id}' is no node id; use letters, digits, '.', '_' and '-', at most 128.")
        if request.leaving:
            self._lose(request.node_id, "it left", left=True)
        while request.node_id in self._going:
            await asyncio.shield(self._going[request.node_id])
        if request.leaving:
            return
        node = self._nodes.get(request.node_id)
        if node is None:
            node = self._join(request, dedicated)
            if request.replaces and request.replaces != request.node_id:
                self._lose(request.replaces, f"{request.node_id} has taken its place")
        node.seen, node.seen_at, node.workers = time.monotonic(), time.time(), request.workers
        if request.draining and not node.draining:
            node.draining = True
            self._tell(NodeDraining(node.node_id))

    def judge(self) -> None:
        """Gives up nodes whose lease has run out. Called several times a lease; a gap means that we were not awake."""
        now = time.monotonic()
        if now - self._last_judged > self._lease / 3:
            self._awake_since = now
        self._last_judged = now
        if now - self._awake_since < self._lease:
            return
        for node in list(self._nodes.values()):
            if now - node.seen > self._lease:
                self._lose(node.node_id, f"no heartbeat for {self._lease:g} s")

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
                compute_target=node.belonging.compute_target,
            )
            for node in self._nodes.values()
        ]

    async def close(self) -> None:
        for node in self._nodes.values():
            await node.channel.close()

    def _join(self, request: scheduler_pb2.HeartbeatRequest, dedicated: bool) -> Node:
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
            belonging=Belonging(request.compute_target, dedicated),
        )
        self._nodes[node.node_id] = node
        structlog.get_logger().info("node_joined", node=node.node_id, address=node.address, slots=node.slots)
        self._tell(NodeJoined(node.node_id, node.belonging))
        return node

    def _lose(self, node_id: str, why: str, left: bool = False) -> None:
        """From now on no stream leads there. Unknown nodes are lost, too: jobs may wait for one that served them before
        this start of the scheduler."""
        if node_id in self._going:
            return
        node = self._nodes.pop(node_id, None)
        if node is not None:
            structlog.get_logger().warning("node_gone", node=node_id, why=why)
        self._going[node_id] = asyncio.get_running_loop().create_future()
        self._spawn(self._tell_loss(node_id, node, left))

    async def _tell_loss(self, node_id: str, node: Node | None, left: bool) -> None:
        """Behind all that the node has told: what is on its way to the disk may not be taken for lost."""
        await self._unheard(node_id, left)
        self._tell(NodeLost(node_id, left))
        self._going.pop(node_id).set_result(None)
        if node is not None:
            await node.channel.close()
