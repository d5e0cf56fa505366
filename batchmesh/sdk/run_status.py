"""azureml's words for how a run stands, told from the states of its jobs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.job import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchmesh.job import Job

NOT_STARTED, RUNNING, FINISHED, FAILED, CANCELED = "NotStarted", "Running", "Finished", "Failed", "Canceled"
_WORDS = {
    JobState.WAITING: NOT_STARTED,
    JobState.PENDING: NOT_STARTED,
    JobState.SUCCEEDED: FINISHED,
    JobState.FAILED: FAILED,
    JobState.LOST: FAILED,
    JobState.CANCELLED: CANCELED,
}


def step_status(job: Job) -> str:
    """Of a step's run."""
    return _WORDS.get(job.state, RUNNING)


def pipeline_status(jobs: Sequence[Job]) -> str:
    """Of the whole: it runs as long as one of its jobs does, and has failed if one of them has."""
    words = {step_status(job) for job in jobs}
    if not all(job.state.is_final for job in jobs):
        return NOT_STARTED if words == {NOT_STARTED} else RUNNING
    return next(word for word in (FAILED, CANCELED, FINISHED) if word in words)


def metrics(jobs: Sequence[Job]) -> dict[str, int]:
    """Counts of mini-batches and items over these jobs."""
    progress = [job.progress for job in jobs]
    total, processed = (
        sum(each.planned_mini_batches for each in progress),
        sum(each.ended_mini_batches for each in progress),
    )
    items, ended = sum(each.planned_items for each in progress), sum(each.ended_items for each in progress)
    return {
        "Total MiniBatches": total,
        "Processed MiniBatches": processed,
        "Remaining MiniBatches": total - processed,
        "Total Items": items,
        "Processed Items": ended,
        "Remaining Items": items - ended,
        "Failed Items": sum(each.failed_items for each in progress),
    }
