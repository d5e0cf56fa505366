"""Compute targets as a client sees them: nodes under a name, which jobs may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from batchmesh.errors import NoComputeTarget, SpecRefused
from batchmesh.target_name import check_target_name
from batchmesh.v1 import scheduler_pb2

if TYPE_CHECKING:
    from datetime import datetime

    from batchmesh.connection import Connection
    from batchmesh.errors import BatchmeshError

_Proto = scheduler_pb2.ComputeTarget


@dataclass(frozen=True, slots=True)
class ComputeTarget:
    """What a target is made with, and behind `wanted_nodes` how it stands, which the mesh says."""

    #: 1 to 24 letters, digits and '-', beginning with a letter.
    name: str
    #: "local": agents on the mesh's host, which come and go as jobs need them; "joined": nodes that join by themselves.
    kind: str = "local"
    min_nodes: int = 0
    max_nodes: int = 1
    #: Seconds without need after which nodes above `min_nodes` end.
    idle_seconds: float = 120.0
    #: Kept; says nothing to a local target.
    vm_size: str = ""
    #: Workers of each node of a local target; 0: the host's cores.
    slots: int = 0
    wanted_nodes: int = 0
    joined_nodes: int = 0
    #: Of the nodes that joined, those that serve a job, and those that finish what they have and end.
    busy_nodes: int = 0
    draining_nodes: int = 0
    #: "RESIZING" or "STEADY"; empty before the mesh has said.
    state: str = ""
    created: datetime | None = None
    #: The newest thing that went wrong with it; empty when nothing does.
    error: str = ""


class ComputeTargets:
    """Reached as `client.compute_targets`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, target: ComputeTarget) -> ComputeTarget:
        """Makes the target, or changes the one of that name; the same again is the same.

        Errors: BadName, SpecRefused, NoSupervisor.
        """
        request = scheduler_pb2.CreateComputeTargetRequest(target=_to_proto(target))
        return _of(self._connection.call(self._connection.scheduler.CreateComputeTarget, request).target)

    def get(self, name: str) -> ComputeTarget:
        """Errors: NoComputeTarget."""
        request = scheduler_pb2.GetComputeTargetRequest(name=name)
        return _of(self._connection.call(self._connection.scheduler.GetComputeTarget, request).target)

    def list(self) -> tuple[ComputeTarget, ...]:
        """All there are, by name."""
        request = scheduler_pb2.ListComputeTargetsRequest()
        return tuple(map(_of, self._connection.call(self._connection.scheduler.ListComputeTargets, request).targets))

    def delete(self, name: str) -> None:
        """Nodes of a local target finish what they have and end. Errors: NoComputeTarget."""

        def heard_before(refused: BatchmeshError) -> None:
            if not isinstance(refused, NoComputeTarget):
                raise refused

        request = scheduler_pb2.DeleteComputeTargetRequest(name=name)
        self._connection.call(self._connection.scheduler.DeleteComputeTarget, request, heard_before)


def _to_proto(target: ComputeTarget) -> _Proto:
    check_target_name(target.name)
    if target.kind not in ("local", "joined"):
        sentence = f"kind is '{target.kind}'; it must be local or joined."
        raise SpecRefused(sentence, {"kind": sentence})
    try:
        return _Proto(
            name=target.name,
            kind=_Proto.Kind.Value(f"KIND_{target.kind.upper()}"),
            min_nodes=target.min_nodes,
            max_nodes=target.max_nodes,
            idle_seconds=target.idle_seconds,
            vm_size=target.vm_size,
            slots=target.slots,
        )
    except (TypeError, ValueError) as error:
        sentence = f"Compute target {target.name} cannot be made: {error}."
        raise SpecRefused(sentence, {"target": sentence}) from None


def _of(proto: _Proto) -> ComputeTarget:
    return ComputeTarget(
        name=proto.name,
        kind=_Proto.Kind.Name(proto.kind).removeprefix("KIND_").lower(),
        min_nodes=proto.min_nodes,
        max_nodes=proto.max_nodes,
        idle_seconds=proto.idle_seconds,
        vm_size=proto.vm_size,
        slots=proto.slots,
        wanted_nodes=proto.wanted_nodes,
        joined_nodes=proto.joined_nodes,
        busy_nodes=proto.busy_nodes,
        draining_nodes=proto.draining_nodes,
        state=_Proto.State.Name(proto.state).removeprefix("STATE_"),
        created=proto.created.ToDatetime(tzinfo=UTC),
        error=proto.error,
    )
