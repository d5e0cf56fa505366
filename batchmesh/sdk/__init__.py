"""Azure ML's SDK v1 as far as ParallelRunStep needs it, over a mesh of batchmesh. docs/azureml.md says what is served.

    Workspace ── a mesh and a namespace in it
      ├─ Datastore, Dataset, Model, Environment ── its catalog       (client.catalog)
      ├─ AmlCompute ── its compute targets                           (client.compute_targets)
      └─ Experiment ──submit(Pipeline of ParallelRunSteps)──▶ a job for each step ──▶ PipelineRun, StepRuns

Names, parameters and their order are azureml-core's. Wrong input raises a class of `batchmesh.errors`, one sentence,
before anything runs. Names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchmesh.sdk.aml_compute import AmlCompute, AmlComputeStatus
    from batchmesh.sdk.compute_target import ComputeTarget
    from batchmesh.sdk.conda_dependencies import CondaDependencies
    from batchmesh.sdk.consumption import DatasetConsumptionConfig
    from batchmesh.sdk.data_reference import DataReference
    from batchmesh.sdk.data_types import DataType, PromoteHeadersBehavior
    from batchmesh.sdk.dataset import Dataset
    from batchmesh.sdk.datastore import Datastore
    from batchmesh.sdk.environment import DEFAULT_CPU_IMAGE, DEFAULT_GPU_IMAGE, Environment
    from batchmesh.sdk.errors import ComputeTargetException, NotServed, RunFailed
    from batchmesh.sdk.experiment import Experiment
    from batchmesh.sdk.file_dataset import FileDataset
    from batchmesh.sdk.model import Model
    from batchmesh.sdk.output_config import OutputFileDatasetConfig
    from batchmesh.sdk.parallel_run_config import ParallelRunConfig
    from batchmesh.sdk.parallel_run_step import ParallelRunStep
    from batchmesh.sdk.pipeline import Pipeline
    from batchmesh.sdk.pipeline_data import PipelineData
    from batchmesh.sdk.pipeline_run import PipelineRun
    from batchmesh.sdk.run_details import RunDetails
    from batchmesh.sdk.step_run import StepRun
    from batchmesh.sdk.tabular_dataset import TabularDataset
    from batchmesh.sdk.workspace import Workspace

#: Module to the names that it exports.
HOMES = {
    "aml_compute": ("AmlCompute", "AmlComputeStatus"),
    "compute_target": ("ComputeTarget",),
    "conda_dependencies": ("CondaDependencies",),
    "consumption": ("DatasetConsumptionConfig",),
    "data_reference": ("DataReference",),
    "data_types": ("DataType", "PromoteHeadersBehavior"),
    "dataset": ("Dataset",),
    "datastore": ("Datastore",),
    "environment": ("DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE", "Environment"),
    "errors": ("ComputeTargetException", "NotServed", "RunFailed"),
    "experiment": ("Experiment",),
    "file_dataset": ("FileDataset",),
    "model": ("Model",),
    "output_config": ("OutputFileDatasetConfig",),
    "parallel_run_config": ("ParallelRunConfig",),
    "parallel_run_step": ("ParallelRunStep",),
    "pipeline": ("Pipeline",),
    "pipeline_data": ("PipelineData",),
    "pipeline_run": ("PipelineRun",),
    "run_details": ("RunDetails",),
    "step_run": ("StepRun",),
    "tabular_dataset": ("TabularDataset",),
    "workspace": ("Workspace",),
}
_MODULE_OF = {name: module for module, names in HOMES.items() for name in names}

__all__ = [
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "AmlCompute",
    "AmlComputeStatus",
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
    "FileDataset",
    "Model",
    "NotServed",
    "OutputFileDatasetConfig",
    "ParallelRunConfig",
    "ParallelRunStep",
    "Pipeline",
    "PipelineData",
    "PipelineRun",
    "PromoteHeadersBehavior",
    "RunDetails",
    "RunFailed",
    "StepRun",
    "TabularDataset",
    "Workspace",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'batchmesh.sdk' has no attribute {name!r}")
    return getattr(importlib.import_module(f"batchmesh.sdk.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
