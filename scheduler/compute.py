"""The compute targets: which there are, how many nodes each has and should have.

    clients ──create, delete──▶ targets ──▶ database
    active jobs, nodes ────────▶   │ scaling
                                   └──demands──▶ supervisor, for targets that are local

A job that names a target is served by that target's nodes alone. The nodes of a local target serve no other jobs; those
that joined by themselves also serve jobs that name none.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batchmesh.errors import NoComputeTarget, NoSupervisor, SpecRefused
from batchmesh.target_name import check_target_name
from batchmesh.v1 import scheduler_pb2

from .demand import Demand
from .jobs import timestamp
from .model import ACTIVE
from .scaling import Bounds, Need, Size, needed, resized
from .target_rows import TargetRow, all_targets, forget_target, put_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .active import ActiveJob
    from .dispatcher import Dispatcher
    from .model import JobState
    from .nodes import Node
    from .store import Store

#: Seconds between two looks at what jobs need, and after which the supervisor is told the same again.
_LOOK, _REPEAT = 0.25, 5.0
_IDLE_SECONDS, _MAX_IDLE = 120.0, 30 * 86_400
#: Nodes of one target at most: each is a process on one host, or a machine.
_MANY_NODES = 1000
_LOCAL, _JOINED = scheduler_pb2.ComputeTarget.KIND_LOCAL, scheduler_pb2.ComputeTarget.KIND_JOINED
_KIND_NAMES = {_LOCAL: "local", _JOINED: "joined"}


@dataclass(slots=True)
class _Target:
    """`settings` is what was asked for; `size` says how many nodes a local one should have."""

    settings: scheduler_pb2.ComputeTarget
    created: float
    size: Size
    #: What the supervisor told of its agents last.
    error: str = ""

    @property
    def is_local(self) -> bool:
        return self.settings.kind == _LOCAL


class ComputeTargets:
    """Kept in the database. Sizes are of this life: another scheduler begins with the nodes there are."""

    def __init__(self, store: Store, dispatcher: Dispatcher, supervisor: str = "") -> None:
        """`supervisor` is the socket of whoever starts agents on this host; empty: nobody does."""
        self._store = store
        self._dispatcher = dispatcher
        self._demand = Demand(supervisor, self._hear)
        self._changed = asyncio.Event()
        self._told: tuple[float, list[dict[str, Any]]] = (0.0, [])
        self._targets = {row.name: _from_row(row) for row in store.read(all_targets).result()}

    async def begin(self) -> None:
        """Opens the line to the supervisor; local targets can be made from then on."""
        await self._demand.open()
        self._dispatcher.spawn(self._demand.listen())

    def close(self) -> None:
        self._demand.close()

    # ---- what clients ask ----

    async def create(self, given: scheduler_pb2.ComputeTarget) -> scheduler_pb2.ComputeTarget:
        """Makes the target, or changes the one of that name. Raises BadName, SpecRefused, NoSupervisor."""
        settings = checked(given)
        known = self._targets.get(settings.name)
        if known is not None and known.settings.kind != settings.kind:
            kind = _KIND_NAMES[known.settings.kind]
            sentence = f"Compute target {settings.name} is a {kind} one; delete it first, or choose another name."
            raise SpecRefused(sentence, {"kind": sentence})
        if settings.kind == _LOCAL and not self._demand.watched:
            raise NoSupervisor(
                f"Nobody here can start the agents of the local compute target {settings.name}; use the mesh of "
                "`batchmesh up`, or make it a joined one and start them with `batchmesh agent --compute-target "
                f"{settings.name}`."
            )
        now = time.monotonic()
        target = replace(known, settings=settings, error="") if known else _Target(settings, time.time(), Size(0, now))
        row = TargetRow(settings.name, settings.SerializeToString(), target.created)
        await asyncio.wrap_future(self._store.write(put_target(row)))
        self._targets[settings.name] = target
        self._changed.set()
        return self.get(settings.name)

    def get(self, name: str) -> scheduler_pb2.ComputeTarget:
        """Raises NoComputeTarget."""
        self.check(name)
        return self._proto(self._targets[name])

    def all(self) -> list[scheduler_pb2.ComputeTarget]:
        return [self._proto(self._targets[name]) for name in sorted(self._targets)]

    async def delete(self, name: str) -> None:
        """Raises NoComputeTarget."""
        self.check(name)
        await asyncio.wrap_future(self._store.write(forget_target(name)))
        self._targets.pop(name, None)
        self._changed.set()

    # ---- what jobs and nodes ask ----

    def check(self, name: str) -> None:
        """Raises NoComputeTarget when there is no such target."""
        if name not in self._targets:
            there = ", ".join(sorted(self._targets)) or "none; create one first"
            raise NoComputeTarget(f"There is no compute target '{name}'; the mesh has {there}.")

    def is_local(self, name: str) -> bool:
        return name in self._targets and self._targets[name].is_local

    def without_nodes(self, name: str) -> str:
        """Why a job of that target, none of whose nodes has joined, has none."""
        target = self._targets.get(name)
        if target is None:
            return f"compute target {name} is no more; create it again, or cancel the job"
        why = f"compute target {name} has no node yet (0 of {max(1, self._wanted(target))})"
        if not target.is_local:
            return f"{why}; start one with `batchmesh agent --compute-target {name}`"
        return f"{why}: {error}" if (error := self._error(target)) else why

    # ---- sizes ----

    def _bounds(self, settings: scheduler_pb2.ComputeTarget) -> Bounds:
        slots = settings.slots or os.cpu_count() or 1
        return Bounds(settings.min_nodes, settings.max_nodes, settings.idle_seconds, slots)

    def _wanted(self, target: _Target) -> int:
        """How many nodes there should be now."""
        if not target.is_local:
            return target.settings.min_nodes
        bounds = self._bounds(target.settings)
        need = needed(map(_need, self._jobs(target.settings.name)), bounds)
        target.size = resized(target.size, bounds, need, time.monotonic())
        return target.size.nodes

    def _jobs(self, name: str) -> Iterator[ActiveJob]:
        for job in self._dispatcher.active.values():
            if job.record.state is not None and job.record.state.limits.compute_target == name:
                yield job

    def _demands(self) -> list[dict[str, Any]]:
        return [
            {
                "compute_target": name,
                "nodes": self._wanted(target),
                "slots": target.settings.slots,
                "idle": [node.address for node in self._dispatcher.nodes.of(name) if not self._holds(node)],
            }
            for name, target in self._targets.items()
            if target.is_local
        ]

    def _holds(self, node: Node) -> bool:
        """Whether the node has, or may have, attempts of any job."""
        states = (job.record.state for job in self._dispatcher.active.values())
        return any(_has_attempts(state, node.node_id) for state in states if state is not None)

    async def run(self) -> None:
        """Tells the supervisor what there should be, for as long as the scheduler lives; once its jobs are taken up."""
        while True:
            self._changed.clear()
            demands, now = self._demands(), time.monotonic()
            if demands != self._told[1] or now - self._told[0] >= _REPEAT:
                self._demand.tell(demands)
                self._told = now, demands
            try:
                await asyncio.wait_for(self._changed.wait(), _LOOK if demands else _REPEAT)
            except TimeoutError:
                continue

    def _hear(self, line: dict[str, Any]) -> None:
        """The supervisor's first line says what agents there are: they stay for the idle time at least."""
        for name, nodes in line.get("crew", {}).items():
            if name in self._targets:
                target = self._targets[name]
                target.size = Size(nodes, time.monotonic() + target.settings.idle_seconds)
        if line.get("compute_target") in self._targets:
            self._targets[line["compute_target"]].error = line["error"]

    def _error(self, target: _Target) -> str:
        if target.is_local and not self._demand.watched:
            return "nobody here can start its agents"
        return target.error

    def _proto(self, target: _Target) -> scheduler_pb2.ComputeTarget:
        told = scheduler_pb2.ComputeTarget()
        told.CopyFrom(target.settings)
        nodes = self._dispatcher.nodes.of(told.name)
        told.wanted_nodes = self._wanted(target)
        told.draining_nodes = sum(node.draining for node in nodes)
        told.joined_nodes = len(nodes)
        told.busy_nodes = sum(self._serves(node) for node in nodes if not node.draining)
        short = told.joined_nodes - told.draining_nodes < told.wanted_nodes
        over = target.is_local and told.joined_nodes > told.wanted_nodes
        told.state = told.STATE_RESIZING if short or over else told.STATE_STEADY
        told.created.CopyFrom(timestamp(target.created))
        told.error = self._error(target)
        return told

    def _serves(self, node: Node) -> bool:
        return any(node.node_id in job.streams for job in self._dispatcher.active.values())


def checked(given: scheduler_pb2.ComputeTarget) -> scheduler_pb2.ComputeTarget:
    """The settings of a target alone, with defaults. Raises BadName, SpecRefused with each field that cannot be."""
    check_target_name(given.name)
    settings = scheduler_pb2.ComputeTarget(
        name=given.name,
        kind=given.kind,
        min_nodes=given.min_nodes,
        max_nodes=given.max_nodes,
        idle_seconds=given.idle_seconds if given.HasField("idle_seconds") else _IDLE_SECONDS,
        vm_size=given.vm_size,
        slots=given.slots,
    )
    violations = dict(_violations(settings))
    if violations:
        raise SpecRefused(" ".join(violations.values()), violations)
    return settings


def _violations(given: scheduler_pb2.ComputeTarget) -> Iterable[tuple[str, str]]:
    if given.kind not in _KIND_NAMES:
        yield "kind", "kind is missing; it must be local or joined."
    if not 1 <= given.max_nodes <= _MANY_NODES:
        yield "max_nodes", f"max_nodes is {given.max_nodes}; it must be from 1 to {_MANY_NODES}."
    if given.min_nodes < 0:
        yield "min_nodes", f"min_nodes is {given.min_nodes}; it must be at least 0."
    elif given.min_nodes > given.max_nodes:
        yield "min_nodes", f"min_nodes is {given.min_nodes}; it must be at most max_nodes, which is {given.max_nodes}."
    if not 0 <= given.idle_seconds <= _MAX_IDLE:
        yield "idle_seconds", f"idle_seconds is {given.idle_seconds:g}; it must be from 0 to {_MAX_IDLE}."
    if not 0 <= given.slots <= 4096:
        yield "slots", f"slots is {given.slots}; it must be from 0, the host's cores, to 4096."


def _from_row(row: TargetRow) -> _Target:
    settings = scheduler_pb2.ComputeTarget.FromString(row.target)
    return _Target(settings, row.created, Size(0, time.monotonic()))


def _need(job: ActiveJob) -> Need:
    state = job.record.state
    if state is None or state.state not in ACTIVE:
        return Need(0, planning=False)
    counts, limits = state.counts, state.limits
    left = counts.planned_mini_batches - counts.settled
    return Need(left, not counts.planning_ended, limits.node_count, job.record.spec.process_count_per_node)


def _has_attempts(job: JobState, node_id: str) -> bool:
    pool = job.pools.get(node_id)
    return node_id in job.awaited or (pool is not None and pool.open > 0)
