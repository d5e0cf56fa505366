"""What several jobs at once have to be before any of them is looked at."""

from __future__ import annotations

import pytest

from batchmesh.errors import SpecRefused
from batchmesh.scheduler.admission import requested
from batchmesh.v1 import scheduler_pb2


def request(*job_ids: str) -> scheduler_pb2.SubmitJobsRequest:
    return scheduler_pb2.SubmitJobsRequest(jobs=[scheduler_pb2.SubmitJobRequest(job_id=each) for each in job_ids])


def test_jobs_are_taken_in_their_order() -> None:
    assert list(requested(request("b", "a", "c"))) == ["b", "a", "c"]
    assert len(requested(request(*map(str, range(100))))) == 100


@pytest.mark.parametrize(
    ("job_ids", "sentence"),
    [
        ([], "There are 0 jobs; submit from 1 to 100 at once."),
        ([str(number) for number in range(101)], "There are 101 jobs; submit from 1 to 100 at once."),
        (["a", ""], "A job has no id; give each of several jobs one."),
        (["a", "b", "a"], "Job a is there 2 times; give each job an id of its own."),
    ],
)
def test_what_is_no_set_of_jobs_is_refused_in_one_sentence(job_ids: list[str], sentence: str) -> None:
    with pytest.raises(SpecRefused) as caught:
        requested(request(*job_ids))
    assert str(caught.value) == sentence
