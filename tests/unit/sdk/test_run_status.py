"""azureml's words for the states of jobs, and what a failed run raises."""

from __future__ import annotations

import pytest

from batchmesh import Failure, Job, JobSpec, JobState, RunFailed
from batchmesh.job import Progress
from batchmesh.sdk.following import check_succeeded
from batchmesh.sdk.run_status import metrics, pipeline_status, step_status

S = JobState


def job(state: JobState, error: Failure | None = None, progress: Progress | None = None) -> Job:
    spec = JobSpec("s.py", ("/in",), "/out", step_name="batch-mnist")
    return Job("job-1", spec, state, "", error, None, progress or Progress(), None, None, None, "", "", 1)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (S.WAITING, "NotStarted"),
        (S.PENDING, "NotStarted"),
        (S.RUNNING, "Running"),
        (S.COMMITTING, "Running"),
        (S.ENDING, "Running"),
        (S.SUCCEEDED, "Finished"),
        (S.FAILED, "Failed"),
        (S.LOST, "Failed"),
        (S.CANCELLED, "Canceled"),
    ],
)
def test_a_step_stands_as_its_job_does(state: JobState, word: str) -> None:
    assert step_status(job(state)) == word
    assert pipeline_status([job(state)]) == word


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ([S.SUCCEEDED, S.SUCCEEDED], "Finished"),
        ([S.SUCCEEDED, S.WAITING], "Running"),
        ([S.FAILED, S.RUNNING], "Running"),
        ([S.FAILED, S.CANCELLED], "Failed"),
        ([S.SUCCEEDED, S.CANCELLED], "Canceled"),
        ([S.PENDING, S.WAITING], "NotStarted"),
    ],
)
def test_a_pipeline_runs_as_long_as_one_step_does(states: list[JobState], word: str) -> None:
    assert pipeline_status([job(state) for state in states]) == word


def test_a_failed_run_raises_the_error_of_what_failed_by_itself() -> None:
    why = Failure("RUN_RAISED", "ValueError: no image", "Traceback …")
    with pytest.raises(RunFailed, match=r"run-1: the step batch-mnist \(job-1\): ValueError: no image") as failed:
        check_succeeded([job(S.SUCCEEDED), job(S.CANCELLED), job(S.FAILED, why)], "run-1")
    assert failed.value.failure == why
    with pytest.raises(RunFailed, match="it was cancelled"):
        check_succeeded([job(S.CANCELLED)], "run-1")
    check_succeeded([job(S.SUCCEEDED), job(S.RUNNING)], "run-1")


def test_metrics_add_up() -> None:
    one = job(S.RUNNING, progress=Progress(4, 20, True, 1, 1, succeeded_items=8, failed_items=2))
    found = metrics([one, one])
    assert found["Total MiniBatches"] == found["Processed MiniBatches"] + found["Remaining MiniBatches"] == 8
    assert found["Total Items"] == found["Processed Items"] + found["Remaining Items"] == 40
    assert found["Failed Items"] == 4
