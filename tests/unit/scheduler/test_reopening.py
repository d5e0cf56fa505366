"""Which jobs go on, and what is said of those that do not."""

from __future__ import annotations

import pytest

from batchmesh.scheduler.model import Counts, Limits, State
from batchmesh.scheduler.reopening import refusal

LIMITS = Limits()
#: Ten mini-batches of ten items, of which three have ended.
HALF = Counts(planned_mini_batches=10, planned_items=100, succeeded_mini_batches=3, succeeded_items=30)
BROKEN = Counts(
    planned_mini_batches=10,
    planned_items=100,
    planning_ended=True,
    succeeded_mini_batches=3,
    succeeded_items=30,
    failed_mini_batches=1,
    failed_items=10,
)


def asked(
    state: State = State.FAILED,
    counts: Counts = HALF,
    limits: Limits = LIMITS,
    outcomes: int = 0,
    *,
    failed: bool = False,
) -> str:
    return refusal("job-1", state, limits, counts, outcomes, failed)


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.LOST])
def test_a_job_that_ended_badly_goes_on(state: State) -> None:
    assert asked(state) == ""


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING, State.COMMITTING, State.ENDING])
def test_a_job_that_has_not_ended_does_not_go_on(state: State) -> None:
    assert state.name in asked(state)
    assert state.name in asked(state, outcomes=1, failed=True)


def test_a_job_that_succeeded_goes_on_only_with_what_failed_of_it() -> None:
    assert "--failed" in asked(State.SUCCEEDED)
    assert asked(State.SUCCEEDED, BROKEN, Limits(error_threshold=-1), outcomes=1, failed=True) == ""


def test_a_job_over_its_threshold_is_told_both_ways_out() -> None:
    why = asked(counts=BROKEN)
    assert "10 items failed, more than error_threshold=0 bears" in why
    assert "--failed" in why
    assert "--error-threshold" in why
    assert asked(counts=BROKEN, limits=Limits(error_threshold=10)) == ""
    assert asked(counts=BROKEN, outcomes=1, failed=True) == ""


def test_a_job_of_which_nothing_succeeded_and_nothing_is_left_would_fail_again() -> None:
    counts = Counts(1, 10, planning_ended=True, failed_mini_batches=1, failed_items=10)
    bears = Limits(error_threshold=-1)
    assert "None of the 10 items succeeded" in asked(counts=counts, limits=bears)
    assert asked(counts=counts, limits=bears, outcomes=1, failed=True) == ""


def test_unreadable_files_stay_failed() -> None:
    counts = Counts(10, 10, planning_ended=True, unreadable_mini_batches=2, failed_items=2)
    assert "cannot be read" in asked(counts=counts, outcomes=1, failed=True)
    assert asked(counts=counts, limits=Limits(error_threshold=2), outcomes=1, failed=True) == ""
    assert "submit another job" in asked(counts=counts, failed=True)


def test_nothing_that_failed_is_nothing_to_run_again() -> None:
    assert asked(State.SUCCEEDED, failed=True) == "Nothing of job job-1 has failed."
    assert "without --failed" in asked(State.CANCELLED, failed=True)
