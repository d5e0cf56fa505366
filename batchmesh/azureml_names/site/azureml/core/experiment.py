"""The experiment that the job belongs to, as its workers know it."""

from __future__ import annotations

import os
from typing import Any

from .partial import Partial, others_of
from .workspace import Workspace


class Experiment(Partial):
    """A light object: its name and its workspace."""

    def __init__(self, workspace: Workspace | None = None, name: str = "", **_: Any) -> None:
        self.workspace = workspace or Workspace()
        self.name = name or os.environ.get("AZUREML_ARM_PROJECT_NAME", "")

    def __repr__(self) -> str:
        return f"Experiment(name={self.name!r})"


__getattr__ = others_of(__name__)
