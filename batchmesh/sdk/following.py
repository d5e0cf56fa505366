"""Waiting for jobs to end, and saying on standard output how they go, as azureml's runs do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from batchmesh.cli.outcome import lines
from batchmesh.cli.shape import counts
from batchmesh.job import JobState
from batchmesh.sdk.errors import RunFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchmesh.client import Client
    from batchmesh.job import Job

#: Seconds between two lines of one job.
_LINE_SECONDS = 1.0


def follow(client: Client, job_ids: Sequence[str], *, show_output: bool, seconds: float) -> list[Job]:
    """The states of the jobs once all have ended, or once the time is over.

    Ctrl-C leaves the jobs as they are, says so, and goes on up.
    """
    deadline = time.monotonic() + seconds
    try:
        return [_last(_watched(client, job_id, deadline), show_output=show_output) for job_id in job_ids]
    except KeyboardInterrupt:
        print("You have left; the run goes on as long as its mesh does.")  # noqa: T201 as azureml does
        raise


def check_succeeded(jobs: Sequence[Job], run: str) -> None:
    """Errors: RunFailed, with the error of the first job that failed by itself."""
    bad = [job for job in jobs if job.state.is_final and job.state is not JobState.SUCCEEDED]
    # One that was cancelled, or failed because of another, says less than that other.
    bad.sort(key=lambda job: (job.state is JobState.CANCELLED, bool(job.started is None)))
    if not bad:
        return
    job = bad[0]
    why = job.error.message if job.error is not None else f"it was {job.state.lower()}"
    failure = job.first_failure if job.first_failure is not None else job.error
    raise RunFailed(f"{run}: the step {job.spec.step_name} ({job.job_id}): {why}", failure)


def _watched(client: Client, job_id: str, deadline: float) -> Iterator[Job]:
    """Its states, up to the end or the deadline: a state comes every few seconds even without a change."""
    for job in client.watch(job_id):
        yield job
        if time.monotonic() > deadline:
            return


def _last(states: Iterator[Job], *, show_output: bool) -> Job:
    said, after, job = "", 0.0, None
    for job in states:
        line = _line(job)
        if show_output and line != said and (time.monotonic() >= after or job.state.is_final):
            said, after = line, time.monotonic() + _LINE_SECONDS
            print(line, flush=True)  # noqa: T201 as azureml does
    assert job is not None, "watching yields at least one state"
    if show_output and job.state.is_final:
        print("\n".join(lines(job)), flush=True)  # noqa: T201 as azureml does
    return job


def _line(job: Job) -> str:
    """ "StepRun batch-mnist (job-…) RUNNING 3/20 mini-batches, 15 items"."""
    why = f" ({job.waiting_for})" if job.waiting_for and not job.state.is_final else ""
    return f"StepRun {job.spec.step_name} ({job.job_id}) {job.state} {counts(job)}{why}"
