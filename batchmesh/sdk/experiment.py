"""Runs under a name."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from batchmesh.errors import SpecRefused
from batchmesh.sdk.errors import NotServed
from batchmesh.sdk.pipeline import Pipeline
from batchmesh.sdk.pipeline_run import PipelineRun
from batchmesh.sdk.resolving import jobs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.sdk.workspace import Workspace

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,35}")


class Experiment:
    """It is there as soon as it is named."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        """Errors: SpecRefused for a name of other than 3 to 36 letters, digits, '-' and '_'."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SpecRefused(
                f"The experiment name {name!r} is none: 3 to 36 letters, digits, '-' and '_', a letter or digit first."
            )
        self.workspace = workspace
        self.name = name

    def __repr__(self) -> str:
        return f"Experiment({self.name!r})"

    def submit(self, config: Pipeline, tags: dict[str, str] | None = None, **kwargs: Any) -> PipelineRun:
        """Submits all steps at once; on a standing mesh they run on without this program.

        Of `kwargs`, `regenerate_outputs=True` reuses no earlier output; `continue_on_step_failure` is unused: steps
        that wait for no failed one always go on. Errors: all of `resolving.jobs_of`, OutputRefused, MeshUnreachable.
        """
        del tags
        if not isinstance(config, Pipeline):
            raise NotServed(f"{config!r} cannot be submitted; submit a Pipeline of ParallelRunSteps.")
        if kwargs.get("pipeline_parameters"):
            raise NotServed("pipeline_parameters are not served; give the values to the steps.")
        known = {"pipeline_parameters", "continue_on_step_failure", "regenerate_outputs"}
        unknown = sorted(set(kwargs) - known)
        if unknown:
            raise NotServed(f"submit takes no {unknown[0]!r}; it takes {', '.join(sorted(known))}.")
        run_id = f"run-{secrets.token_hex(5)}"
        jobs = jobs_of(config, self.name, run_id, may_reuse=not kwargs.get("regenerate_outputs"))
        submitted = config.workspace.client.submit_many(jobs, attended=True)
        outputs = {job_id: step.output for (job_id, _), step in zip(jobs, config.steps, strict=True)}
        return PipelineRun(self, run_id, jobs=submitted, outputs=outputs)

    def get_runs(self) -> Iterator[PipelineRun]:
        """The newest first."""
        ids = dict.fromkeys(
            job.spec.pipeline_run
            for job in self.workspace.client.list(workspace=self.workspace.name, experiment=self.name)
            if job.spec.pipeline_run
        )
        return (PipelineRun(self, run_id) for run_id in ids)

    @staticmethod
    def list(workspace: Workspace, experiment_name: str | None = None) -> list[Experiment]:
        """Those of which a run is known."""
        jobs = workspace.client.list(workspace=workspace.name)
        names = dict.fromkeys(job.spec.experiment for job in jobs if job.spec.experiment)
        return [Experiment(workspace, name) for name in names if experiment_name in (None, name)]
