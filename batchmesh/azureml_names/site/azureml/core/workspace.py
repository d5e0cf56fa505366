"""The workspace of the job, as its workers know it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .partial import Partial, others_of

if TYPE_CHECKING:
    from .dataset import Dataset
    from .model import Model


class Workspace(Partial):
    """A light object: its name, and the datasets and models that the agent fetches. Holds no credentials."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Whatever a script says of subscription and group, it is the job's own workspace."""
        self.name = os.environ.get("AZUREML_ARM_WORKSPACE_NAME", "default")
        self.subscription_id = os.environ.get("AZUREML_ARM_SUBSCRIPTION", "")
        self.resource_group = os.environ.get("AZUREML_ARM_RESOURCEGROUP", "")
        self.location = ""

    @classmethod
    def from_config(cls, *_: Any, **__: Any) -> Workspace:
        return cls()

    @classmethod
    def get(cls, *_: Any, **__: Any) -> Workspace:
        return cls()

    @property
    def datasets(self) -> _Datasets:
        return _Datasets(self)

    @property
    def models(self) -> _Models:
        return _Models(self)

    def __repr__(self) -> str:
        return f"Workspace(name={self.name!r})"


class _Datasets:
    """The newest version of each dataset, by name."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __getitem__(self, name: str) -> Dataset:
        from .dataset import Dataset

        return Dataset.get_by_name(self._workspace, name)


class _Models:
    """The newest version of each model, by name."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __getitem__(self, name: str) -> Model:
        from .model import Model

        return Model(self._workspace, name)


__getattr__ = others_of(__name__)
