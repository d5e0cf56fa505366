"""AmlCompute: the nodes of a compute target, and how many there are."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchmesh import compute
from batchmesh.sdk.compute_target import ComputeTarget
from batchmesh.sdk.errors import ComputeTargetException
from batchmesh.sdk.unused import say_unused

if TYPE_CHECKING:
    from datetime import datetime

#: Seconds between two looks at a target that grows.
_POLL = 0.2


@dataclass(frozen=True)
class AmlComputeProvisioningConfiguration:
    """What is to be made; counts may be texts, for programs take them from their environment."""

    vm_size: str = ""
    min_nodes: int = 0
    max_nodes: int = 1
    idle_seconds_before_scaledown: float = 120.0

    def for_mesh(self, name: str) -> compute.ComputeTarget:
        """As the mesh is asked for it."""
        return compute.ComputeTarget(
            name,
            min_nodes=self.min_nodes,
            max_nodes=self.max_nodes,
            idle_seconds=self.idle_seconds_before_scaledown,
            vm_size=self.vm_size,
        )


@dataclass(frozen=True)
class ScaleSettings:
    minimum_node_count: int
    maximum_node_count: int
    idle_seconds_before_scaledown: float


@dataclass(frozen=True)
class AmlComputeStatus:
    """How it stands at one moment."""

    target: compute.ComputeTarget

    @property
    def current_node_count(self) -> int:
        return self.target.joined_nodes

    @property
    def target_node_count(self) -> int:
        return self.target.wanted_nodes

    @property
    def allocation_state(self) -> str:
        """Resizing or Steady."""
        return self.target.state.capitalize()

    @property
    def provisioning_state(self) -> str:
        """Succeeded, or Failed while the newest thing said of it is an error."""
        return "Failed" if self.target.error else "Succeeded"

    @property
    def scale_settings(self) -> ScaleSettings:
        return ScaleSettings(self.target.min_nodes, self.target.max_nodes, self.target.idle_seconds)

    def serialize(self) -> dict[str, Any]:
        """As azureml names it; times are ISO 8601."""
        target = self.target
        idle = max(target.joined_nodes - target.busy_nodes - target.draining_nodes, 0)
        return {
            "currentNodeCount": target.joined_nodes,
            "targetNodeCount": target.wanted_nodes,
            "nodeStateCounts": {
                "preparingNodeCount": max(target.wanted_nodes - target.joined_nodes, 0),
                "runningNodeCount": target.busy_nodes,
                "idleNodeCount": idle,
                "unusableNodeCount": 0,
                "leavingNodeCount": target.draining_nodes,
                "preemptedNodeCount": 0,
            },
            "allocationState": self.allocation_state,
            "creationTime": _iso(target.created),
            "errors": [{"error": {"message": target.error}}] if target.error else None,
            "provisioningState": self.provisioning_state,
            "scaleSettings": {
                "minNodeCount": target.min_nodes,
                "maxNodeCount": target.max_nodes,
                "nodeIdleTimeBeforeScaleDown": f"PT{target.idle_seconds:g}S",
            },
            "vmPriority": "Dedicated",
            "vmSize": target.vm_size,
        }


class AmlCompute(ComputeTarget):
    """Nodes that the mesh starts and ends on its own host as jobs need them, or that join by themselves."""

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "",
        vm_priority: str = "dedicated",
        min_nodes: int | str = 0,
        max_nodes: int | str | None = None,
        idle_seconds_before_scaledown: float | str | None = None,
        admin_username: str | None = None,
        admin_user_password: str | None = None,
        admin_user_ssh_key: str | None = None,
        vnet_resourcegroup_name: str | None = None,
        vnet_name: str | None = None,
        subnet_name: str | None = None,
        tags: dict[str, str] | None = None,
        description: str | None = None,
    ) -> AmlComputeProvisioningConfiguration:
        """Counts may be texts. What says how Azure would make a machine is unused, and `vm_size` is kept.

        Errors: ComputeTargetException for counts that cannot be.
        """
        del admin_username, admin_user_password, admin_user_ssh_key, tags, description
        if vm_priority != "dedicated":
            say_unused(f"vm_priority {vm_priority!r}", "nodes are started on the mesh's own host.")
        if vnet_resourcegroup_name or vnet_name or subnet_name:
            say_unused("a virtual network", "nodes are started on the mesh's own host.")
        least, most = _number("min_nodes", min_nodes), _number("max_nodes", 1 if max_nodes is None else max_nodes)
        idle = (
            120.0
            if idle_seconds_before_scaledown is None
            else _number("idle_seconds_before_scaledown", idle_seconds_before_scaledown)
        )
        if not 0 <= least <= most or most < 1:
            raise ComputeTargetException(
                f"min_nodes is {least} and max_nodes {most}; give 0 <= min_nodes <= max_nodes, and max_nodes from 1."
            )
        return AmlComputeProvisioningConfiguration(vm_size, least, most, idle)

    @property
    def type(self) -> str:
        return "AmlCompute"

    @property
    def vm_size(self) -> str:
        return self._target.vm_size

    @property
    def scale_settings(self) -> ScaleSettings:
        return AmlComputeStatus(self._target).scale_settings

    @property
    def provisioning_state(self) -> str:
        return AmlComputeStatus(self._target).provisioning_state

    def get_status(self) -> AmlComputeStatus:
        """As it stands now. Errors: ComputeTargetException."""
        self.refresh_state()
        return AmlComputeStatus(self._target)

    def serialize(self) -> dict[str, Any]:
        return {"name": self.name, "type": self.type, "status": AmlComputeStatus(self._target).serialize()}

    def wait_for_completion(
        self,
        show_output: bool = False,
        min_node_count: int | str | None = None,
        timeout_in_minutes: float | str = 25,
        is_delete_operation: bool = False,
    ) -> None:
        """Waits until so many nodes have joined: `min_node_count`, or else the target's own min_nodes.

        When the time is over it says so and returns. Errors: ComputeTargetException when the target cannot be had.
        """
        del is_delete_operation
        wanted = self._target.min_nodes if min_node_count is None else _number("min_node_count", min_node_count)
        minutes = _minutes(timeout_in_minutes)
        deadline = time.monotonic() + 60 * minutes
        said = ""
        while True:
            status = self.get_status()
            line = f"{status.allocation_state}: {status.current_node_count} of {wanted} nodes"
            if show_output and line != said:
                print(line)  # noqa: T201 as azureml does
            said = line
            if status.target.error:
                raise ComputeTargetException(f"The compute target {self.name!r}: {status.target.error}")
            if status.current_node_count >= wanted or time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        if show_output:
            enough = status.current_node_count >= wanted
            print("The nodes are there." if enough else f"Not within {minutes:g} minutes.")  # noqa: T201

    def update(
        self,
        min_nodes: int | str | None = None,
        max_nodes: int | str | None = None,
        idle_seconds_before_scaledown: float | str | None = None,
    ) -> None:
        """Changes what is given. Errors: ComputeTargetException."""
        settings = self.scale_settings
        changed = self.provisioning_configuration(
            self.vm_size,
            min_nodes=settings.minimum_node_count if min_nodes is None else min_nodes,
            max_nodes=settings.maximum_node_count if max_nodes is None else max_nodes,
            idle_seconds_before_scaledown=settings.idle_seconds_before_scaledown
            if idle_seconds_before_scaledown is None
            else idle_seconds_before_scaledown,
        )
        ComputeTarget.create(self.workspace, self.name, changed)
        self.refresh_state()


def _number(name: str, given: Any) -> int:
    try:
        return int(given)
    except (TypeError, ValueError):
        raise ComputeTargetException(f"{name} is a whole number, not {given!r}.") from None


def _minutes(given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        raise ComputeTargetException(f"timeout_in_minutes is a number, not {given!r}.") from None


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
