"""The run of a pipeline: a job for each of its steps."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from batchmesh.datastores.reference import parse
from batchmesh.errors import JobCommitting, JobEnded, NoJob, Refused
from batchmesh.sdk.downloads import chosen
from batchmesh.sdk.following import check_succeeded, follow
from batchmesh.sdk.run_status import FINISHED, metrics, pipeline_status
from batchmesh.sdk.step_run import StepRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchmesh.job import Job
    from batchmesh.sdk.experiment import Experiment
    from batchmesh.sdk.output_data import StepOutput
    from batchmesh.sdk.port import Port


class PipelineRun:
    """`PipelineRun(experiment, run_id)` finds one again, also in another program while its mesh stands."""

    def __init__(
        self,
        experiment: Experiment,
        run_id: str,
        *,
        jobs: Sequence[Job] | None = None,
        outputs: Mapping[str, StepOutput] | None = None,
    ) -> None:
        """`jobs` and `outputs` (by job id) are what has just been submitted. Errors: NoJob."""
        self.experiment = experiment
        self.id = run_id
        self._client = experiment.workspace.client
        self._jobs = tuple(jobs) if jobs is not None else self._found()
        self._outputs = dict(outputs or {})

    def __repr__(self) -> str:
        return f"PipelineRun({self.experiment.name!r}, {self.id})"

    # How it goes

    def wait_for_completion(
        self, show_output: bool = True, timeout_seconds: float = sys.maxsize, raise_on_error: bool = True
    ) -> str:
        """Waits for all steps and returns "Finished"; says meanwhile on standard output how they go.

        When the time is over it returns the status as it is. Ctrl-C leaves the run as it is. Errors: RunFailed with the
        first step's error, with `raise_on_error`; MeshUnreachable.
        """
        if show_output:
            print(f"PipelineRunId: {self.id}", flush=True)  # noqa: T201 as azureml does
        ids = [job.job_id for job in self._jobs]
        jobs = follow(self._client, ids, show_output=show_output, seconds=timeout_seconds)
        status = pipeline_status(jobs)
        if show_output:
            print(f"PipelineRun {self.id}: {status}", flush=True)  # noqa: T201 as azureml does
        if raise_on_error and status != FINISHED:
            check_succeeded(jobs, self.id)
        return status

    def get_status(self) -> str:
        """NotStarted, Running, Finished, Failed or Canceled."""
        return pipeline_status(self.jobs)

    def get_details(self) -> dict[str, Any]:
        return {"runId": self.id, "status": self.get_status(), "steps": [run.get_details() for run in self.get_steps()]}

    def get_metrics(self, name: str | None = None, recursive: bool = False) -> dict[str, Any]:
        """Mini-batches and items over all steps; with `recursive` those of each step by its run's id."""
        if recursive:
            return {run.id: run.get_metrics(name) for run in self.get_steps()}
        found = metrics(self.jobs)
        return found if name is None else {each: value for each, value in found.items() if each == name}

    def cancel(self) -> None:
        """Ends all steps that have not ended; what is done stays done."""
        for job in self._jobs:
            try:
                self._client.cancel(job.job_id)
            except (JobCommitting, JobEnded):
                continue

    @property
    def jobs(self) -> list[Job]:
        """As they stand now."""
        return [self._client.get(job.job_id) for job in self._jobs]

    def get_portal_url(self) -> str:
        """There is no portal: the command that shows the same."""
        return f"batchmesh jobs --pipeline-run {self.id}"

    # Its steps

    def get_steps(self) -> Iterator[StepRun]:
        """In the order in which they were submitted."""
        return (StepRun(self, job, self._output_name(job)) for job in self._jobs)

    def get_children(self, recursive: bool = False) -> Iterator[StepRun]:
        """As `get_steps`: steps have no children of their own."""
        del recursive
        return self.get_steps()

    def find_step_run(self, name: str) -> list[StepRun]:
        """The runs of the step of that name: one, or none."""
        return [run for run in self.get_steps() if run.name == name]

    def get_pipeline_output(self, pipeline_output_name: str) -> Port:
        """The output of that name, of whichever step writes it. Errors: Refused when none does."""
        for run, job in zip(self.get_steps(), self._jobs, strict=True):
            output = self._outputs.get(job.job_id)
            if pipeline_output_name in (getattr(output, "pipeline_output_name", None), self._output_name(job)):
                return run.get_output()
        raise Refused(f"No step of {self.id} has the output {pipeline_output_name!r}.")

    # Files

    def get_file_names(self) -> list[str]:
        """Those of each step, below its name."""
        return [f"{run.name}/{name}" for run in self.get_steps() for name in run.get_file_names()]

    def download_file(self, name: str, output_file_path: str | None = None) -> None:
        """Copies one of `get_file_names`. Errors: Refused for a name that begins with no step's."""
        step, _, inside = name.partition("/")
        runs = self.find_step_run(step)
        if not runs:
            raise Refused(f"The file {name!r} is none of {self.id}; get_file_names() has them.")
        runs[0].download_file(inside, output_file_path)

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | None = None,
        output_paths: list[str] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
    ) -> None:
        """Copies all of `get_file_names` that begin with `prefix`, under their names or those of `output_paths`."""
        del batch_size
        names = self.get_file_names()
        for name, to in chosen(names, prefix, output_directory, output_paths, append_prefix):
            self.download_file(name, to)

    def _output_name(self, job: Job) -> str:
        """As the program named it; of a run that was found again, the last part of its place."""
        if job.job_id in self._outputs:
            return self._outputs[job.job_id].name
        reference = parse(job.spec.output)
        return reference.path.rstrip("/").rpartition("/")[2] if reference else ""

    def _found(self) -> tuple[Job, ...]:
        """Errors: NoJob."""
        workspace = self.experiment.workspace
        jobs = tuple(self._client.list(workspace=workspace.name, pipeline_run=self.id))[::-1]
        if not jobs:
            raise NoJob(f"The workspace {workspace.name!r} has no run {self.id!r}.")
        return jobs
