"""A namespace on a mesh: what a program sees of Azure ML's workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchmesh.entries import DEFAULT_WORKSPACE, EntryKind
from batchmesh.sdk.config_file import read_config
from batchmesh.sdk.connections import client_of

if TYPE_CHECKING:
    from batchmesh.client import Client
    from batchmesh.sdk.compute_target import ComputeTarget
    from batchmesh.sdk.dataset import AnyDataset
    from batchmesh.sdk.datastore import Datastore
    from batchmesh.sdk.environment import Environment
    from batchmesh.sdk.experiment import Experiment
    from batchmesh.sdk.model import Model


class Workspace:
    """A namespace of datastores, datasets, models, environments and runs. It is there as soon as it is named."""

    def __init__(
        self,
        subscription_id: str = "",
        resource_group: str = "",
        workspace_name: str = DEFAULT_WORKSPACE,
        auth: object = None,
        *,
        client: Client | None = None,
    ) -> None:
        """Without `client` it is one of the home's mesh. `auth` is unused; the other two are kept."""
        del auth
        self.name = workspace_name
        self.subscription_id = subscription_id
        self.resource_group = resource_group
        self.client = client if client is not None else client_of()

    @property
    def location(self) -> str:
        """Azure's programs print it."""
        return "local"

    def __repr__(self) -> str:
        return f"Workspace({self.name!r} at {self.client.address})"

    @classmethod
    def from_config(
        cls, path: str | None = None, auth: object = None, _logger: object = None, _file_name: str | None = None
    ) -> Workspace:
        """The workspace that config.json names, looked for here and in the folders above; see `config_file`.

        Without a `scheduler` in it, or without a config, it is of the mesh in the home, which is started if need be.
        """
        del auth, _logger
        config = read_config(path, _file_name)
        client = client_of(config.scheduler)
        return cls(config.subscription_id, config.resource_group, config.workspace_name, client=client)

    @classmethod
    def get(
        cls, name: str, auth: object = None, subscription_id: str | None = None, resource_group: str | None = None
    ) -> Workspace:
        """The workspace of that name, of the mesh that the nearest config.json names, else of the home's."""
        del auth
        return cls(subscription_id or "", resource_group or "", name, client=client_of(read_config().scheduler))

    def write_config(self, path: str | None = None, file_name: str | None = None) -> None:
        """Writes .azureml/config.json, from which `from_config` finds this workspace again."""
        import json
        from pathlib import Path

        folder = Path(path or ".") / ".azureml"
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "workspace_name": self.name,
            **({} if self.client.mesh().embedded else {"scheduler": self.client.address}),
        }
        (folder / (file_name or "config.json")).write_text(json.dumps(facts, indent=2) + "\n")

    def get_default_datastore(self) -> Datastore:
        from batchmesh.sdk.datastore import Datastore

        return Datastore.get_default(self)

    @property
    def datastores(self) -> dict[str, Datastore]:
        """By name."""
        from batchmesh.sdk.datastore import Datastore

        entries = self.client.catalog.list(EntryKind.DATASTORE, workspace=self.name)
        return {entry.name: Datastore(self, entry=entry) for entry in entries}

    @property
    def datasets(self) -> dict[str, AnyDataset]:
        """The newest version of each, by name."""
        from batchmesh.sdk.dataset import Dataset

        return Dataset.get_all(self)

    @property
    def models(self) -> dict[str, Model]:
        """The newest version of each, by name."""
        from batchmesh.sdk.model import Model

        return {model.name: model for model in Model.list(self, latest=True)}

    @property
    def environments(self) -> dict[str, Environment]:
        """The newest version of each, by name."""
        from batchmesh.sdk.environment import Environment

        return Environment.list(self)

    @property
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """By name. They are the mesh's, seen from each of its workspaces."""
        from batchmesh.sdk.compute_target import ComputeTarget

        return {target.name: target for target in ComputeTarget.list(self)}

    @property
    def experiments(self) -> dict[str, Experiment]:
        """Those of which a run is known, by name."""
        from batchmesh.sdk.experiment import Experiment

        return {experiment.name: experiment for experiment in Experiment.list(self)}

    def get_details(self) -> dict[str, Any]:
        return {"name": self.name, "scheduler": self.client.address}
