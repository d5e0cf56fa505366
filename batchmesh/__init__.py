"""batchmesh: batch inference and any per-mini-batch work over large inputs, on one laptop or on many hosts.

    with batchmesh.Client() as client:
        job = client.submit("score.py", ["images"], "scores", attended=True)
        for job in client.watch(job.job_id):
            print(job.state, job.progress.succeeded_items)

Azure ML's names for the same are here, too (`Workspace`, `ParallelRunStep`, `Pipeline`, …): see batchmesh.sdk.

Importing this package imports nothing else: workers do so inside the user's environment, whatever is installed there
(CPython 3.9 and later). Names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchmesh import errors
    from batchmesh.client import Client
    from batchmesh.errors import BatchmeshError, MeshUnreachable, Refused
    from batchmesh.job import Failure, Job, JobSpec, JobState, LogFile, Mesh, Node, NodeState, Progress
    from batchmesh.sdk import (
        DEFAULT_CPU_IMAGE,
        DEFAULT_GPU_IMAGE,
        AmlCompute,
        ComputeTarget,
        ComputeTargetException,
        CondaDependencies,
        DataReference,
        Dataset,
        DatasetConsumptionConfig,
        Datastore,
        DataType,
        Environment,
        Experiment,
        FileDataset,
        Model,
        NotServed,
        OutputFileDatasetConfig,
        ParallelRunConfig,
        ParallelRunStep,
        Pipeline,
        PipelineData,
        PipelineRun,
        RunDetails,
        RunFailed,
        StepRun,
        TabularDataset,
        Workspace,
    )
    from batchmesh.submission import Settings, Submission

__all__ = [
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "AmlCompute",
    "BatchmeshError",
    "Client",
    "ComputeTarget",
    "ComputeTargetException",
    "CondaDependencies",
    "DataReference",
    "DataType",
    "Dataset",
    "DatasetConsumptionConfig",
    "Datastore",
    "Environment",
    "Experiment",
    "Failure",
    "FileDataset",
    "Job",
    "JobSpec",
    "JobState",
    "LogFile",
    "Mesh",
    "MeshUnreachable",
    "Model",
    "Node",
    "NodeState",
    "NotServed",
    "OutputFileDatasetConfig",
    "ParallelRunConfig",
    "ParallelRunStep",
    "Pipeline",
    "PipelineData",
    "PipelineRun",
    "Progress",
    "Refused",
    "RunDetails",
    "RunFailed",
    "Settings",
    "StepRun",
    "Submission",
    "TabularDataset",
    "Workspace",
    "errors",
]

_HOMES = {
    "batchmesh.client": ("Client",),
    "batchmesh.errors": ("BatchmeshError", "MeshUnreachable", "Refused"),
    "batchmesh.job": ("Failure", "Job", "JobSpec", "JobState", "LogFile", "Mesh", "Node", "NodeState", "Progress"),
    "batchmesh.sdk": (
        "AmlCompute",
        "ComputeTarget",
        "ComputeTargetException",
        "CondaDependencies",
        "DEFAULT_CPU_IMAGE",
        "DEFAULT_GPU_IMAGE",
        "DataReference",
        "DataType",
        "Dataset",
        "DatasetConsumptionConfig",
        "Datastore",
        "Environment",
        "Experiment",
        "FileDataset",
        "Model",
        "NotServed",
        "OutputFileDatasetConfig",
        "ParallelRunConfig",
        "ParallelRunStep",
        "Pipeline",
        "PipelineData",
        "PipelineRun",
        "RunDetails",
        "RunFailed",
        "StepRun",
        "TabularDataset",
        "Workspace",
    ),
    "batchmesh.submission": ("Settings", "Submission"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("batchmesh.errors")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("batchmesh")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'batchmesh' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
