"""What is said of a job that has ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from batchmesh.cli.shape import seconds
from batchmesh.job import JobState

if TYPE_CHECKING:
    from batchmesh.job import Job


def report(job: Job) -> None:
    """Says on standard error how it ended, and where to look."""
    sys.stderr.write("".join(f"{line}\n" for line in lines(job)))
    sys.stderr.flush()


def lines(job: Job) -> list[str]:
    """The sentences; a traceback stands between them as it is."""
    said = [_headline(job)]
    if job.reused_from:
        said.append(f"reused: it is the output of {job.reused_from}")
    if job.not_reused:
        said.append(f"not reused: {job.not_reused}")
    if job.error is not None and job.state is not JobState.SUCCEEDED:
        said.append(f"error: {job.error.message}")
    said += _traceback(job)
    if job.output_path:
        said.append(f"output: {job.output_path}" + (f" ({job.progress.rows:,} rows)" if job.progress.rows else ""))
    if job.report_path:
        said.append(f"report: {job.report_path}")
    return said + _next(job)


def _next(job: Job) -> list[str]:
    """What can be done about it. Over a threshold, going on as before would only fail again."""
    resume = f"batchmesh resume {job.job_id}"
    if job.state is JobState.SUCCEEDED:
        return [f"To run what failed again: {resume} --failed"] if job.progress.failed_items else []
    if job.error is not None and job.error.kind == "THRESHOLD":
        return [f"What is done stays done: {resume} --failed, or --error-threshold N to bear what failed"]
    return [f"What is done stays done: {resume}"] if job.state.is_final else []


def _headline(job: Job) -> str:
    progress, length = job.progress, seconds(job)
    rate = f" ({progress.ended_items / length:,.0f} items/s)" if length > 0.05 and progress.ended_items else ""
    failed = f", {progress.failed_items:,} failed" if progress.failed_items else ""
    if progress.unreadable_mini_batches:
        failed += f" ({progress.unreadable_mini_batches:,} unreadable files)"
    what = f"{progress.ended_mini_batches:,} mini-batches, {progress.succeeded_items:,} items succeeded{failed}"
    return f"{job.job_id} {job.state.lower()}: {what} in {length:.1f} s{rate}"


def _traceback(job: Job) -> list[str]:
    """The first traceback of the user's code, whatever became of the job; of a job that succeeded only its sentence."""
    first = job.first_failure
    if job.state is JobState.SUCCEEDED:
        return [f"first failure: {first.message}"] if first is not None else []
    if job.state is JobState.CANCELLED:
        return []
    failure = next((each for each in (first, job.error) if each is not None and each.traceback), None)
    if failure is None:
        return [f"first failure: {first.message}"] if first is not None and first != job.error else []
    return ["first failure:", failure.traceback.rstrip("\n")]
