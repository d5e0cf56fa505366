"""From a pipeline to the jobs that the mesh is asked for.

    steps in order ──▶ (job id, Submission), …
                        inputs: paths, or the place where an earlier step's job will write; that job is among `after`
                        datasets: the versions that they were registered as

What can be wrong is one sentence, raised here, or by the scheduler, which looks at the inputs before it takes the jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.client import new_job_id
from batchmesh.datastores.reference import Reference
from batchmesh.entries import DEFAULT_DATASTORE
from batchmesh.errors import Refused
from batchmesh.sdk.model import Model
from batchmesh.sdk.output_data import OutputInput
from batchmesh.submission import Submission

if TYPE_CHECKING:
    from batchmesh.sdk.output_data import StepOutput
    from batchmesh.sdk.parallel_run_step import ParallelRunStep, StepInput
    from batchmesh.sdk.pipeline import Pipeline
    from batchmesh.submission import Settings


def jobs_of(
    pipeline: Pipeline, experiment: str, run_id: str, *, may_reuse: bool = True
) -> list[tuple[str, Submission]]:
    """Each step's job, those that others come after first.

    Errors: SpecRefused, ScriptRefused, InputRefused for a window with nothing in it, NoEntry, NoComputeTarget,
    NotServed, DatastoreFailed, Refused for a datastore of another workspace.
    """
    ids = {step: new_job_id() for step in pipeline.steps}
    resolver = _Resolver(pipeline, ids)
    labels: Settings = {"workspace": pipeline.workspace.name, "pipeline_run": run_id, "experiment": experiment}
    return [(ids[step], resolver.submission(step, labels, may_reuse=may_reuse)) for step in pipeline.steps]


class _Resolver:
    """One pipeline, whose steps' jobs will have these ids."""

    def __init__(self, pipeline: Pipeline, ids: dict[ParallelRunStep, str]) -> None:
        self._pipeline = pipeline
        self._workspace = pipeline.workspace
        self._ids = ids

    def submission(self, step: ParallelRunStep, labels: Settings, *, may_reuse: bool) -> Submission:
        settings = step.config.settings()
        settings.update(labels)
        settings.update(self._what_it_needs(step))
        settings["step_name"] = step.name
        settings["arguments"] = step.arguments
        settings["allow_reuse"] = step.allow_reuse and may_reuse
        settings["after"] = list(dict.fromkeys(self._ids[other] for other in step.comes_after))
        if settings.get("source_directory") is None:
            settings["source_directory"] = self._pipeline.default_source_directory
        paths = [self._paths(each) for each in step.inputs]
        settings["input_sizes"] = [len(each) for each in paths]
        inputs = [path for each in paths for path in each]
        return Submission.prepare(step.config.entry_script, inputs, self._place(step.output), **settings)

    def _what_it_needs(self, step: ParallelRunStep) -> Settings:
        """What the input is, and what the workers have beside it."""
        first, environment = step.inputs[0], step.config.environment
        needs: Settings = {
            "input_type": first.kind,
            "models": [each.for_job() if isinstance(each, Model) else each for each in step.models],
            "side_inputs": {each.name: self._side_input(step, each) for each in step.side_inputs},
            "compute_target": self._target(step),
        }
        if first.csv_header:
            needs["csv_header"] = first.csv_header
        if first.csv_types:
            needs["csv_types"] = first.csv_types
        if environment is not None:
            needs["environment"] = environment.for_job()
            variables = {**environment.environment_variables, **step.config.environment_variables}
            needs["environment_variables"] = variables
        return needs

    def _paths(self, given: StepInput) -> tuple[str, ...]:
        if isinstance(given.source, OutputInput):
            return (self._place(given.source.output),)
        return given.source.settled(self._workspace).paths

    def _side_input(self, step: ParallelRunStep, given: StepInput) -> str:
        """A path of this host, which is sent along, or a reference."""
        paths = self._paths(given)
        if len(paths) > 1:
            raise Refused(
                f"The side input {given.name!r} of the step {step.name!r} has {len(paths)} paths; a side input is one "
                "file or one folder."
            )
        return paths[0]

    def _place(self, output: StepOutput) -> str:
        """Where the output of a step of this pipeline will lie."""
        assert output.producer is not None, "the order has been made, so there is one"
        datastore = output.datastore or self._pipeline.default_datastore
        if datastore is not None and datastore.workspace.name != self._workspace.name:
            raise Refused(
                f"The output {output.name!r} of the step {output.producer.name!r} is in the datastore "
                f"{datastore.name!r} of another workspace; give one of {self._workspace.name!r}."
            )
        name = datastore.name if datastore is not None else DEFAULT_DATASTORE
        return str(Reference(name, output.path_in(self._ids[output.producer])))

    def _target(self, step: ParallelRunStep) -> str | None:
        """Errors: NoComputeTarget."""
        name = step.config.target_name
        return self._workspace.client.compute_targets.get(name).name if name else None
