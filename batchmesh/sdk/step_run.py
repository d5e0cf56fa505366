"""The run of one step: a job, its output and its logs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchmesh.datastores.reference import Reference, parse
from batchmesh.errors import InputRefused, Refused
from batchmesh.sdk.downloads import chosen
from batchmesh.sdk.following import check_succeeded, follow
from batchmesh.sdk.places import files_at
from batchmesh.sdk.port import Port
from batchmesh.sdk.run_status import metrics, step_status

if TYPE_CHECKING:
    from batchmesh.job import Job
    from batchmesh.sdk.experiment import Experiment
    from batchmesh.sdk.pipeline_run import PipelineRun
    from batchmesh.sdk.places import File

#: Before the names of what the workers have written.
_LOGS, _REPORT = "logs/", "logs/sys/job_report/"


class StepRun:
    """A step of a pipeline's run. `id` is the job's."""

    def __init__(self, pipeline_run: PipelineRun, job: Job, output_name: str) -> None:
        self.pipeline_run = pipeline_run
        self.experiment: Experiment = pipeline_run.experiment
        self.id = job.job_id
        self.name = job.spec.step_name
        self._spec = job.spec
        self._output_name = output_name
        self._client = pipeline_run.experiment.workspace.client

    def __repr__(self) -> str:
        return f"StepRun({self.name!r}, {self.id})"

    @property
    def parent(self) -> PipelineRun:
        return self.pipeline_run

    @property
    def job(self) -> Job:
        """As it stands now: the whole state, with its error, its report and its counts."""
        return self._client.get(self.id)

    @property
    def is_reused(self) -> bool:
        """Whether its output is an earlier job's."""
        return bool(self.job.reused_from)

    def get_status(self) -> str:
        """NotStarted, Running, Finished, Failed or Canceled."""
        return step_status(self.job)

    def get_details(self) -> dict[str, Any]:
        job = self.job
        return {
            "runId": job.job_id,
            "status": step_status(job),
            "startTimeUtc": job.started.isoformat() if job.started else None,
            "endTimeUtc": job.ended.isoformat() if job.ended else None,
            "error": job.error.message if job.error else None,
            "waitingFor": job.waiting_for,
            "reusedFrom": job.reused_from or None,
            "notReused": job.not_reused or None,
        }

    def get_metrics(self, name: str | None = None) -> dict[str, int]:
        """Total, processed and remaining mini-batches and items, and failed items."""
        found = metrics([self.job])
        return found if name is None else {each: value for each, value in found.items() if each == name}

    def wait_for_completion(
        self, show_output: bool = True, timeout_seconds: float = sys.maxsize, raise_on_error: bool = True
    ) -> str:
        """The status at its end, or when the time is over. Errors: RunFailed, with `raise_on_error`."""
        jobs = follow(self._client, [self.id], show_output=show_output, seconds=timeout_seconds)
        if raise_on_error:
            check_succeeded(jobs, self.pipeline_run.id)
        return step_status(jobs[0])

    def cancel(self) -> None:
        """What is done stays done. Errors: JobCommitting, JobEnded."""
        self._client.cancel(self.id)

    # The output

    def get_output_data(self, name: str) -> Port:
        """Where the output of that name lies. Errors: Refused when it is not this step's."""
        if name != self._output_name:
            raise Refused(f"The step {self.name!r} has no output {name!r}; its output is {self._output_name!r}.")
        return Port(self.experiment.workspace, self.id, name, parse(self._spec.output), self._spec)

    def get_output(self) -> Port:
        """The one output that it has."""
        return self.get_output_data(self._output_name)

    def get_outputs(self) -> dict[str, Port]:
        return {self._output_name: self.get_output()}

    # Logs and the report

    def get_file_names(self) -> list[str]:
        """Logs, and the files of the report below logs/sys/job_report/."""
        return sorted(
            [*(_LOGS + log.name for log in self._client.logs(self.id)), *(_REPORT + name for name in self._report())]
        )

    def download_file(self, name: str, output_file_path: str | None = None) -> None:
        """Copies one of `get_file_names`, by default under its own name into the current folder. Errors: NoLog."""
        to = Path(output_file_path or os.path.basename(name))
        if to.is_dir():
            to /= os.path.basename(name)
        report = self._report() if name.startswith(_REPORT) else {}
        known = report.get(name.removeprefix(_REPORT))
        if known is not None:
            known.copy_to(to)
            return
        pieces = self._client.read_log(self.id, name.removeprefix(_LOGS))
        first = next(pieces, b"")  # there is such a log, or nothing is written here
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("wb") as file:
            file.write(first)
            file.writelines(pieces)

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

    def get_stdout_log(self) -> str:
        """What all workers have written to standard output, one after the other."""
        return self._log("user/stdout/")

    def get_stderr_log(self) -> str:
        """As `get_stdout_log`, of standard error."""
        return self._log("user/stderr/")

    def _log(self, prefix: str) -> str:
        names = sorted(log.name for log in self._client.logs(self.id) if log.name.startswith(prefix))
        return b"".join(piece for name in names for piece in self._client.read_log(self.id, name)).decode(
            errors="replace"
        )

    def _report(self) -> dict[str, File]:
        """The files of the report by name; none of a folder that this process cannot see."""
        place = self.job.report_path
        base = (parse(place) or Reference("", place)).path.rstrip("/")
        try:
            found = list(files_at(self.experiment.workspace, place)) if place else []
        except InputRefused:
            return {}
        return {file.path[len(base) + 1 :]: file for file in found}
