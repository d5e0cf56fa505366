"""Steps in the order that their data asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchmesh.errors import BatchmeshError
from batchmesh.sdk.errors import NotServed
from batchmesh.sdk.ordering import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchmesh.sdk.datastore import Datastore
    from batchmesh.sdk.parallel_run_step import ParallelRunStep
    from batchmesh.sdk.pipeline_run import PipelineRun
    from batchmesh.sdk.workspace import Workspace


class Pipeline:
    """What an experiment submits: each step becomes a job that comes after those whose output it reads."""

    def __init__(
        self,
        workspace: Workspace,
        steps: Sequence[Any],
        description: str | None = None,
        default_datastore: Datastore | None = None,
        default_source_directory: str | None = None,
        resolve_closure: bool = True,
    ) -> None:
        """Steps, or lists of them; with those whose data they read, though they are not named (`resolve_closure` is
        always on). Steps with no data between them start in the order given. Errors: SpecRefused.
        """
        del resolve_closure
        self.workspace = workspace
        self.description = description
        self.default_datastore = default_datastore
        self.default_source_directory = default_source_directory
        self.steps: list[ParallelRunStep] = in_order(steps)

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(step.name for step in self.steps)})"

    def validate(self) -> list[str]:
        """The sentence that a submission would be refused with, or an empty list.

        Nothing is submitted; whether the mesh has the inputs, and models named by text, is only looked at then.
        """
        from batchmesh.sdk.resolving import jobs_of

        try:
            jobs_of(self, "validation", "run-validation")
        except BatchmeshError as error:
            return [str(error)]
        return []

    def submit(
        self,
        experiment_name: str,
        pipeline_parameters: dict[str, Any] | None = None,
        continue_on_step_failure: bool = False,
        regenerate_outputs: bool = False,
    ) -> PipelineRun:
        """As `Experiment(ws, experiment_name).submit(pipeline, …)`."""
        from batchmesh.sdk.experiment import Experiment

        return Experiment(self.workspace, experiment_name).submit(
            self,
            pipeline_parameters=pipeline_parameters,
            continue_on_step_failure=continue_on_step_failure,
            regenerate_outputs=regenerate_outputs,
        )

    def publish(self, name: str | None = None, description: str | None = None, version: str | None = None) -> None:
        """Always refused."""
        del description, version
        raise NotServed(f"Publishing the pipeline {name or ''!r} is not served; keep the program and submit it again.")
