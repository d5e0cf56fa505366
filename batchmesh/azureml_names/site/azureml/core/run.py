"""The run that a worker works for: what it is called, and a place for metrics, which go to the worker's log."""

from __future__ import annotations

import logging
import os
from typing import Any

from .experiment import Experiment
from .partial import Partial, others_of

_log = logging.getLogger("azureml.run")
#: How the names of variables begin that hold the local paths of named inputs.
_INPUT = "AZUREML_DATAREFERENCE_"


class Run(Partial):
    """The job of this worker, by what its environment says. Nothing of it needs a service."""

    instead = "write files below --output, and metrics with log()"

    def __init__(self, experiment: Experiment | None = None, run_id: str = "", **_: Any) -> None:
        self.experiment = experiment or Experiment()
        self.id = run_id or os.environ.get("AZUREML_RUN_ID", "offline")
        self._named = bool(run_id)
        self.number = 1
        self.type = "batchmesh.job"
        self.tags: dict[str, str] = {}
        self.properties: dict[str, str] = {}
        self._metrics: dict[str, Any] = {}

    @classmethod
    def get_context(cls, allow_offline: bool = True, **_: Any) -> Run:
        """The run of this worker's job."""
        del allow_offline
        return cls()

    @property
    def name(self) -> str:
        return self.id

    display_name = name

    @property
    def parent(self) -> Run | None:
        """Of the worker's own run the pipeline's, or the job's again where there is none: scripts rely on one."""
        return None if self._named else Run(self.experiment, os.environ.get("AZUREML_ROOT_RUN_ID", self.id))

    @property
    def input_datasets(self) -> dict[str, str]:
        """The local path of each side input, by name."""
        return {name[len(_INPUT) :]: path for name, path in os.environ.items() if name.startswith(_INPUT)}

    @property
    def status(self) -> str:
        return "Running"

    def get_status(self) -> str:
        return self.status

    def get_details(self) -> dict[str, Any]:
        return {
            "runId": self.id,
            "status": self.status,
            "properties": dict(self.properties),
            "inputDatasets": [],
            "runDefinition": {},
            "logFiles": {},
        }

    # Metrics: each process keeps its own.

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        self._keep(name, value)

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        self._keep(name, list(value))

    def log_row(self, name: str, description: str | None = None, **columns: Any) -> None:
        self._keep(name, columns)

    def log_table(self, name: str, value: Any, description: str = "") -> None:
        self._keep(name, value)

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        self._keep(name, path or "a plot")

    def get_metrics(self, name: str | None = None, **_: Any) -> dict[str, Any]:
        """What this object was told."""
        return {each: value for each, value in self._metrics.items() if name in (None, each)}

    def _keep(self, name: str, value: Any) -> None:
        self._metrics[name] = value
        _log.info("metric %s: %r", name, value)

    # Labels.

    def tag(self, key: str, value: Any = None) -> None:
        self.set_tags({key: value})

    def set_tags(self, tags: dict[str, Any]) -> None:
        self.tags.update({key: str(value) for key, value in tags.items()})
        _log.info("tags: %r", tags)

    def get_tags(self) -> dict[str, str]:
        return dict(self.tags)

    def add_properties(self, properties: dict[str, Any]) -> None:
        self.properties.update({key: str(value) for key, value in properties.items()})
        _log.info("properties: %r", properties)

    def get_properties(self) -> dict[str, str]:
        return dict(self.properties)

    # Its life, of which the job decides.

    def flush(self, timeout_seconds: int = 300) -> None:
        """Nothing waits."""

    def complete(self, _set_status: bool = True) -> None:
        """The job ends when all its mini-batches have."""

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __repr__(self) -> str:
        return f"Run(id={self.id!r})"


class _OfflineRun(Run):
    """What get_context() gives outside of Azure ML, for scripts that ask; workers always have a run."""


__getattr__ = others_of(__name__)
