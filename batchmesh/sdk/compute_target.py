"""Compute targets: nodes under a name, made and found as azureml does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchmesh.errors import BadName, NoComputeTarget, NoSupervisor, SpecRefused
from batchmesh.sdk.errors import ComputeTargetException

if TYPE_CHECKING:
    from batchmesh import compute
    from batchmesh.sdk.workspace import Workspace


class ComputeTarget:
    """`ComputeTarget(ws, name)` finds one, as the class that it is. Errors: ComputeTargetException."""

    def __new__(cls, *_: Any, **__: Any) -> ComputeTarget:  # noqa: PYI034 an AmlCompute, as azureml has it
        """An AmlCompute: there is no other kind yet."""
        from batchmesh.sdk.aml_compute import AmlCompute

        return object.__new__(AmlCompute if cls is ComputeTarget else cls)

    def __init__(self, workspace: Workspace, name: str, *, target: compute.ComputeTarget | None = None) -> None:
        """`target` is what the mesh said of it, where the caller has asked."""
        self.workspace = workspace
        self.name = name
        self._target = target if target is not None else self._asked()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @staticmethod
    def create(workspace: Workspace, name: str, provisioning_configuration: Any) -> ComputeTarget:
        """Makes it, or changes the one of that name. Errors: ComputeTargetException, also where nobody starts nodes."""
        if not hasattr(provisioning_configuration, "for_mesh"):
            raise ComputeTargetException(
                f"The compute target {name!r} is made of what AmlCompute.provisioning_configuration gives, not of "
                f"{provisioning_configuration!r}."
            )
        try:
            made = workspace.client.compute_targets.create(provisioning_configuration.for_mesh(name))
        except (BadName, NoSupervisor, SpecRefused) as error:
            raise ComputeTargetException(str(error)) from None
        return ComputeTarget(workspace, name, target=made)

    @staticmethod
    def attach(workspace: Workspace, name: str, attach_configuration: object) -> ComputeTarget:
        """Always refused."""
        del workspace, attach_configuration
        raise ComputeTargetException(
            f"Attaching {name!r} is not served; start agents there with --compute-target {name}, and it is found here."
        )

    @staticmethod
    def list(workspace: Workspace) -> list[ComputeTarget]:
        found = workspace.client.compute_targets.list()
        return [ComputeTarget(workspace, target.name, target=target) for target in found]

    def delete(self) -> None:
        """Its nodes finish what they have and end. Errors: ComputeTargetException."""
        try:
            self.workspace.client.compute_targets.delete(self.name)
        except NoComputeTarget as error:
            raise ComputeTargetException(str(error)) from None

    def refresh_state(self) -> None:
        """Asks the mesh how it stands. Errors: ComputeTargetException."""
        self._target = self._asked()

    def _asked(self) -> compute.ComputeTarget:
        try:
            return self.workspace.client.compute_targets.get(self.name)
        except NoComputeTarget as error:
            raise ComputeTargetException(str(error)) from None
