"""What is kept of jobs that have ended, and what is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchmesh.scheduler.retention import Kept, kept, to_forget

DAY = 86_400.0
LARGE = 2**40


def test_what_ended_too_long_ago_is_forgotten_the_oldest_first() -> None:
    jobs = [Kept("new", 9 * DAY, 1), Kept("old", 1 * DAY, 1), Kept("older", 0.5 * DAY, 1)]
    assert to_forget(jobs, 10 * DAY, 7 * DAY, LARGE) == ["older", "old"]


def test_the_oldest_go_until_the_rest_fits() -> None:
    jobs = [Kept(f"job-{number}", float(number), 10) for number in range(5)]
    assert to_forget(jobs, 5.0, DAY, 30) == ["job-0", "job-1"]


def test_the_job_that_ended_last_stays_for_its_time_however_large_it_is() -> None:
    jobs = [Kept("small", 1.0, 1), Kept("huge", 2.0, 1000)]
    assert to_forget(jobs, 3.0, DAY, 10) == ["small"]
    assert to_forget(jobs, 3 * DAY, DAY, 10) == ["small", "huge"]


def test_what_runs_counts_and_stays() -> None:
    jobs = [Kept("runs", None, 100), Kept("first", 1.0, 10), Kept("second", 2.0, 10)]
    assert to_forget(jobs, 3.0, DAY, 110) == ["first"]


def test_bytes_of_a_job_that_nobody_knows_count_too() -> None:
    assert kept({"known": 1.0, "without": 2.0}, {"known": 5, "stray": 7}) == [
        Kept("known", 1.0, 5),
        Kept("stray", None, 7),
        Kept("without", 2.0, 0),
    ]


JOBS = st.lists(
    st.builds(Kept, st.uuids().map(str), st.none() | st.floats(0, 1000), st.integers(0, 100)),
    unique_by=lambda job: job.job_id,
)


@given(JOBS, st.floats(0, 1000), st.integers(0, 500))
def test_what_is_left_is_young_and_fits_as_far_as_it_can(jobs: list[Kept], seconds: float, limit: int) -> None:
    gone = to_forget(jobs, 1000.0, seconds, limit)
    left = [job for job in jobs if job.job_id not in gone]
    ended = [job for job in left if job.ended is not None]
    assert all(1000.0 - job.ended <= seconds for job in ended if job.ended is not None)
    assert len(ended) <= 1 or sum(job.bytes for job in left) <= limit
    assert not {job.job_id for job in jobs if job.ended is None} & set(gone)
