"""The decisions of a job's life, without a clock, a disk or a network."""

from __future__ import annotations

import dataclasses

import pytest

from batchmesh.scheduler.events import (
    AttemptEnd,
    AttemptsEnded,
    ClosePool,
    Commit,
    Discard,
    Dispatch,
    FramesDamaged,
    JobCancelled,
    JobSubmitted,
    NodeDraining,
    NodeJoined,
    NodeLost,
    OpenPool,
    OutputCommitted,
    OutputFailed,
    PlanGrew,
    PlanningFailed,
    PoolChanged,
    Settle,
    StreamEnded,
    Ticked,
)
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import Counts, Failure, FailureKind, Limits, MiniBatch, PoolPhase, State

from .drive import JOB, NOT_STARTED, RAISED, Drive, dispatched, of_kind, whole


def test_a_job_opens_a_pool_on_each_node_and_on_each_that_joins_later() -> None:
    drive = Drive(nodes=("a", "b"))
    assert of_kind(drive.commands, OpenPool) == [OpenPool(JOB, "a"), OpenPool(JOB, "b")]
    assert drive.tell(NodeJoined("c")) == [OpenPool(JOB, "c")]


def test_at_most_node_count_nodes_serve_a_job() -> None:
    drive = Drive(whole(node_count=1), nodes=("a", "b"))
    assert of_kind(drive.commands, OpenPool) == [OpenPool(JOB, "a")]
    assert OpenPool(JOB, "b") in drive.tell(NodeLost("a")) + drive.tell(Ticked())


def test_mini_batches_go_out_in_order_and_within_credits() -> None:
    drive = Drive()
    drive.plan(10)
    assert dispatched(drive.ready(credits_=4)) == [0, 1, 2, 3]
    assert len(drive.job.waiting) == 6


def test_the_first_dispatch_makes_a_job_run() -> None:
    drive = Drive()
    drive.plan(1)
    assert drive.state() is State.PENDING
    drive.ready()
    assert drive.state() is State.RUNNING


def test_the_last_mini_batches_go_where_fewest_are_open() -> None:
    drive = Drive(nodes=("a", "b"))
    drive.ready("a", workers=2, credits_=4)
    drive.ready("b", workers=2, credits_=4)
    commands = [each for each in drive.plan(4) if isinstance(each, Dispatch)]
    assert sorted(len(each.attempts) for each in commands) == [2, 2]


def test_when_all_succeeded_the_output_is_committed_and_then_the_job_succeeded() -> None:
    drive = Drive()
    drive.plan(2)
    drive.ready()
    drive.succeed(0)
    commands = drive.succeed(1)
    assert of_kind(commands, Commit) == [Commit(JOB)]
    assert ClosePool(JOB, "a") in commands
    assert drive.state() is State.COMMITTING
    drive.tell(OutputCommitted(JOB))
    assert drive.state() is State.SUCCEEDED


def test_nothing_is_committed_before_planning_has_ended() -> None:
    drive = Drive()
    drive.plan(1, ended=False)
    drive.ready()
    assert not of_kind(drive.succeed(0), Commit)
    assert of_kind(drive.tell(PlanGrew(JOB, 0, 0, ended=True)), Commit)


def test_a_failed_attempt_is_tried_again_until_run_max_try() -> None:
    drive = Drive(whole(run_max_try=3, error_threshold=-1))
    drive.plan(2)
    drive.ready(credits_=20)
    for number in (2, 3):
        commands = drive.fail(0)
        assert [each.attempts[0][1].tries + 1 for each in commands if isinstance(each, Dispatch)] == [number]
        assert drive.job.counts.failed_items == 0
    drive.fail(0)
    assert drive.job.counts.failed_items == 10
    assert drive.job.counts.failed_mini_batches == 1
    assert drive.job.counts.retried_attempts == 2


def test_an_attempt_that_never_began_is_no_try() -> None:
    drive = Drive(whole(run_max_try=1))
    drive.plan(1)
    drive.ready(credits_=9)
    drive.fail(0, NOT_STARTED)
    assert drive.job.counts.failed_items == 0
    assert drive.job.first_failure is None
    assert 0 in drive.out()


def test_a_lost_node_gives_its_mini_batches_back_in_order() -> None:
    drive = Drive(nodes=("a", "b"))
    drive.plan(6)
    drive.ready("a", credits_=4)
    assert dispatched(drive.tell(NodeLost("a"))) == []
    assert drive.waiting() == [0, 1, 2, 3, 4, 5]
    assert dispatched(drive.ready("b", credits_=2)) == [0, 1]


def test_an_outcome_of_a_lost_node_that_comes_late_counts_nothing() -> None:
    drive = Drive()
    drive.plan(1)
    drive.ready()
    late = drive.out()[0]
    drive.tell(NodeLost("a"))
    drive.tell(AttemptsEnded(JOB, [AttemptEnd(late, 10, 0, 10)]))
    assert drive.job.counts.succeeded_items == 0


def test_a_stream_that_a_node_refused_gives_back_what_was_out_and_is_opened_again_with_the_next_tick() -> None:
    drive = Drive()
    drive.plan(1)
    drive.ready()
    drive.tell(StreamEnded(JOB, "a"))
    assert drive.waiting() == [0]
    assert drive.tell(Ticked()) == [OpenPool(JOB, "a")]


def test_a_draining_node_ends_what_it_has_and_gets_nothing_new() -> None:
    drive = Drive()
    drive.plan(10)
    drive.ready(credits_=2)
    assert drive.tell(NodeDraining("a")) == [ClosePool(JOB, "a")]
    assert dispatched(drive.ready(credits_=2)) == []
    drive.succeed(0)
    assert drive.job.counts.succeeded_items == 10
    drive.tell(StreamEnded(JOB, "a"))
    assert drive.tell(Ticked()) == []


@pytest.mark.parametrize(("bears", "fails"), [(-1, False), (9, True), (10, False)])
def test_error_threshold_counts_items(bears: int, fails: bool) -> None:
    drive = Drive(whole(run_max_try=1, error_threshold=bears))
    drive.plan(2)
    drive.ready()
    drive.fail(0)
    assert bool(of_kind(drive.commands, Discard)) is fails


def test_a_job_over_its_threshold_fails_with_the_first_traceback() -> None:
    drive = Drive(whole(run_max_try=1))
    drive.plan(2)
    drive.ready()
    commands = drive.fail(0)
    assert ClosePool(JOB, "a", abort=True) in commands
    error = drive.job.error
    assert error is not None
    assert error.message == ("10 items failed, more than error_threshold=0 bears; the first failure: ValueError: no")
    assert error.traceback == RAISED.traceback
    drive.tell(OutputCommitted(JOB))
    assert drive.state() is State.FAILED


def test_a_retry_that_may_still_save_a_mini_batch_counts_against_no_threshold() -> None:
    drive = Drive(whole(run_max_try=2, error_threshold=0, allowed_failed_count=0))
    drive.plan(1)
    drive.ready()
    drive.fail(0)
    drive.succeed(0)
    assert drive.state() is State.COMMITTING


@pytest.mark.parametrize(("bears", "fails"), [(-1, False), (0, True), (1, False)])
def test_allowed_failed_count_counts_mini_batches(bears: int, fails: bool) -> None:
    drive = Drive(whole(run_max_try=1, error_threshold=-1, allowed_failed_count=bears))
    drive.plan(3)
    drive.ready()
    drive.fail(0)
    assert bool(of_kind(drive.commands, Discard)) is fails


def test_allowed_failed_percent_is_judged_once_all_are_scheduled() -> None:
    drive = Drive(whole(run_max_try=1, error_threshold=-1, allowed_failed_percent=25.0))
    drive.plan(4)
    drive.ready(credits_=2)
    drive.fail(0)
    drive.fail(1)
    assert drive.state() is State.RUNNING
    drive.ready(credits_=2)
    drive.succeed(2)
    assert drive.state() is State.ENDING


def test_a_short_return_counts_items_and_no_mini_batch() -> None:
    drive = Drive(whole(error_threshold=-1, allowed_failed_count=0))
    drive.plan(1)
    drive.ready()
    drive.succeed(0, failed=3)
    assert drive.state() is State.COMMITTING
    assert (drive.job.counts.failed_items, drive.job.counts.failed_mini_batches) == (3, 0)


def test_an_append_row_job_in_which_nothing_succeeded_fails_whatever_it_bears() -> None:
    drive = Drive(whole(run_max_try=1, error_threshold=-1))
    drive.plan(1)
    drive.ready()
    drive.fail(0)
    assert drive.job.error is not None
    assert drive.job.error.message.startswith("None of the 10 items succeeded")


def test_a_summary_only_job_may_end_with_nothing_succeeded() -> None:
    drive = Drive(whole(run_max_try=1, error_threshold=-1, needs_rows=False))
    drive.plan(1)
    drive.ready()
    drive.fail(0)
    assert drive.state() is State.COMMITTING


def test_an_unreadable_file_is_one_failed_item_and_no_failed_mini_batch() -> None:
    drive = Drive(whole(error_threshold=1, allowed_failed_count=0))
    drive.plan(1, ended=False)
    drive.ready()
    unreadable = Failure(FailureKind.UNREADABLE_FILE, "b.csv is damaged.")
    drive.tell(PlanGrew(JOB, 1, 1, ended=True, unreadable=1, first_unreadable=unreadable))
    drive.succeed(0)
    assert drive.state() is State.COMMITTING
    assert drive.job.counts == Counts(
        planned_mini_batches=2,
        planned_items=11,
        planning_ended=True,
        succeeded_mini_batches=1,
        unreadable_mini_batches=1,
        succeeded_items=10,
        failed_items=1,
        rows=10,
    )


def test_a_node_where_init_fails_is_suspect_and_the_job_goes_on_elsewhere() -> None:
    drive = Drive(nodes=("a", "b"))
    drive.plan(2)
    failure = Failure(FailureKind.INIT_FAILED, "no model", "Traceback …")
    drive.tell(PoolChanged(JOB, "a", PoolPhase.FAILED, failure=failure))
    assert drive.state() is State.PENDING
    assert drive.tell(Ticked()) == []
    drive.tell(PoolChanged(JOB, "b", PoolPhase.FAILED, failure=failure))
    assert drive.job.error == failure


def test_a_cancelled_job_aborts_its_pools_and_writes_its_report() -> None:
    drive = Drive()
    drive.plan(4)
    drive.ready()
    commands = drive.tell(JobCancelled(JOB))
    assert ClosePool(JOB, "a", abort=True) in commands
    assert of_kind(commands, Discard)
    drive.tell(OutputCommitted(JOB))
    assert drive.state() is State.CANCELLED


def test_a_cancel_after_committing_began_changes_nothing() -> None:
    drive = Drive()
    drive.plan(1)
    drive.ready()
    drive.succeed(0)
    assert drive.tell(JobCancelled(JOB)) == []
    assert drive.state() is State.COMMITTING


def test_damaged_frames_run_again_and_are_not_counted_twice() -> None:
    drive = Drive()
    drive.plan(2)
    drive.ready()
    drive.succeed(0)
    drive.succeed(1)
    lost = Counts(succeeded_mini_batches=1, succeeded_items=10, rows=10)
    commands = drive.tell(FramesDamaged(JOB, [MiniBatch(1, 10)], lost))
    assert OpenPool(JOB, "a") in commands
    assert dispatched(drive.ready()) == [1]
    drive.succeed(1)
    assert drive.state() is State.COMMITTING
    assert drive.job.counts.succeeded_items == 20


def test_an_output_that_cannot_be_written_fails_the_job() -> None:
    drive = Drive()
    drive.plan(1)
    drive.ready()
    drive.succeed(0)
    full = Failure(FailureKind.OUTPUT_FAILED, "cannot write")
    assert of_kind(drive.tell(OutputFailed(JOB, full)), Discard)
    drive.tell(OutputFailed(JOB, full))
    assert drive.state() is State.FAILED
    assert drive.job.error == full


def test_a_failed_listing_fails_the_job() -> None:
    drive = Drive()
    failure = Failure(FailureKind.PLANNING_FAILED, "gone")
    drive.tell(PlanningFailed(JOB, failure))
    assert drive.job.error == failure


def test_a_job_without_an_attempt_that_ends_is_stalled_only_while_one_is_open() -> None:
    drive = Drive(whole(progress_timeout=100))
    drive.plan(1)
    drive.now = 1000
    drive.tell(Ticked())
    assert drive.state() is State.PENDING
    drive.ready()
    drive.now = 1099
    drive.tell(Ticked())
    assert drive.state() is State.RUNNING
    drive.now = 1101
    drive.tell(Ticked())
    assert drive.job.error is not None
    assert drive.job.error.kind is FailureKind.STALLED


def test_a_listing_that_gives_nothing_for_too_long_fails_the_job_and_a_missing_node_does_not() -> None:
    drive = Drive(whole(first_timeout=100), nodes=())
    drive.now = 99
    drive.tell(Ticked())
    assert drive.state() is State.PENDING
    waits = Drive(whole(first_timeout=100), nodes=())
    waits.plan(1)
    for each in (drive, waits):
        each.now = 101
        each.tell(Ticked())
    assert drive.job.error is not None
    assert drive.job.error.kind is FailureKind.STALLED
    assert waits.state() is State.PENDING


def test_a_job_found_again_with_all_done_is_committed_at_once() -> None:
    drive = Drive()
    drive.plan(1)
    drive.ready()
    drive.succeed(0)
    counts = dataclasses.replace(drive.job.counts)
    again = Drive()
    assert of_kind(again.tell(JobSubmitted("other", Limits(), counts)), Commit)


def test_a_job_found_again_fails_with_the_failure_that_came_first_in_its_earlier_life() -> None:
    drive = Drive(nodes=())
    counts = Counts(planned_mini_batches=2, planned_items=20, failed_mini_batches=1, failed_items=10)
    drive.tell(JobSubmitted("other", whole(), counts, first_failure=RAISED))
    error = drive.machine.jobs["other"].error
    assert error is not None
    assert error.traceback == RAISED.traceback


def test_what_is_settled_is_said_once_so_that_its_payload_can_go() -> None:
    drive = Drive(whole(run_max_try=2, error_threshold=-1))
    drive.plan(2)
    drive.ready()
    assert of_kind(drive.fail(0), Settle) == []
    assert of_kind(drive.succeed(1), Settle) == [Settle(JOB, [1])]
    assert of_kind(drive.fail(0), Settle) == [Settle(JOB, [0])]


def test_attempt_ids_of_two_starts_never_meet() -> None:
    first, second = Machine(epoch=1), Machine(epoch=2)
    assert second._next_attempt - first._next_attempt >= 2**40
