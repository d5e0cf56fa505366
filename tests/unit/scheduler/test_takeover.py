"""Attempts outlive their stream and the scheduler that dispatched them; they end with their node."""

from __future__ import annotations

import pytest

from batchmesh.scheduler.events import (
    AttemptEnd,
    AttemptsEnded,
    AttemptsHeld,
    ClosePool,
    CreditsGranted,
    Dispatch,
    HeldAttempt,
    JobCancelled,
    MiniBatchesPlanned,
    NodeDraining,
    NodeJoined,
    NodeLost,
    OpenPool,
    PlanGrew,
    PoolChanged,
    RecordLoss,
    StreamEnded,
    TellState,
    Ticked,
)
from batchmesh.scheduler.isolation import Isolation
from batchmesh.scheduler.model import Counts, Failure, FailureKind, Limits, MiniBatch, PoolPhase, State

from .drive import CRASHED, JOB, RAISED, Drive, dispatched, of_ended, of_kind, whole

BROKEN = StreamEnded(JOB, "a", broken=True)
#: An attempt of an earlier start of the scheduler.
EARLIER = 7


def at_work(count: int = 1, nodes: tuple[str, ...] = ("a",), limits: Limits | None = None) -> Drive:
    """All mini-batches are out on node a."""
    drive = Drive(limits, nodes=nodes)
    drive.plan(count)
    drive.ready("a", workers=2, credits_=count)
    return drive


def tick(drive: Drive, seconds: float = 0.25) -> list[object]:
    drive.now += seconds
    return list(drive.tell(Ticked()))


# ---- a cut stream ----


def test_a_cut_stream_costs_no_attempt() -> None:
    drive = at_work(2)
    out = drive.out()
    assert drive.tell(BROKEN) == []
    assert tick(drive) == [OpenPool(JOB, "a")]
    assert drive.held("a", (out[0], 0), (out[1], 1)) == []
    drive.succeed(0)
    drive.succeed(1)
    assert drive.state() is State.COMMITTING
    assert drive.job.counts.retried_attempts == 0


def test_an_outcome_that_was_under_way_when_the_stream_broke_counts() -> None:
    drive = at_work()
    drive.tell(BROKEN)
    drive.succeed(0)
    assert drive.job.counts.succeeded_items == 10


def test_a_stream_that_breaks_again_and_again_is_opened_at_growing_intervals() -> None:
    drive = at_work()
    pauses = []
    for _ in range(5):
        drive.tell(BROKEN)
        broken, opened = drive.now, drive.tell(Ticked())
        while not opened:
            drive.now += 0.125
            opened = drive.tell(Ticked())
        pauses.append(drive.now - broken)
    assert pauses == [0.25, 0.5, 1.0, 2.0, 2.0]
    drive.held("a", (drive.out()[0], 0))
    drive.tell(BROKEN)
    assert tick(drive) == [OpenPool(JOB, "a")]


def test_while_a_stream_is_being_opened_no_other_one_is() -> None:
    drive = at_work()
    drive.tell(BROKEN)
    assert tick(drive) == [OpenPool(JOB, "a")]
    assert tick(drive, 5.0) == []


def test_what_a_node_does_not_hold_any_more_runs_again_without_a_try() -> None:
    drive = at_work(2, nodes=("a", "b"), limits=whole(run_max_try=1))
    drive.tell(CreditsGranted(JOB, "b", 2))
    drive.tell(BROKEN)
    assert dispatched(drive.held("a", (drive.out()[1], 1))) == [0]
    assert (drive.on("a"), drive.on("b")) == ([1], [0])
    assert drive.job.counts.retried_attempts == 0


def test_nothing_goes_to_a_node_that_is_cut_off() -> None:
    drive = Drive(nodes=("a", "b"))
    drive.ready("a", credits_=4)
    drive.tell(BROKEN)
    drive.plan(3)
    assert dispatched(drive.tell(CreditsGranted(JOB, "a", 4))) == []
    assert dispatched(drive.ready("b", credits_=3)) == [0, 1, 2]


def test_a_node_has_room_again_once_it_has_told_what_it_holds() -> None:
    drive = at_work(1)
    drive.plan(3)
    drive.tell(BROKEN)
    drive.held("a", (drive.out()[0], 0))
    assert dispatched(drive.tell(CreditsGranted(JOB, "a", 2))) == [1, 2]
    assert drive.job.pools["a"].open == 3


def test_what_no_stream_reaches_for_a_lease_runs_elsewhere() -> None:
    drive = at_work(1, nodes=("a", "b"))
    drive.ready("b")
    lost = drive.out()[0]
    drive.tell(BROKEN)
    tick(drive, 14.0)
    assert drive.on("a") == [0]
    tick(drive, 1.5)
    assert drive.on("b") == [0]
    assert of_ended(drive.held("a", (lost, 0))) == [lost]


def test_a_stream_that_breaks_before_the_node_has_told_anything_prolongs_no_lease() -> None:
    drive = at_work(1, nodes=("a", "b"))
    drive.ready("b")
    drive.tell(BROKEN)
    drive.now = 14.0
    drive.tell(BROKEN)
    tick(drive, 1.0)
    assert drive.on("b") == [0]


def test_an_attempt_that_is_taken_over_has_all_its_time() -> None:
    drive = at_work(1, nodes=("a", "b"), limits=whole(progress_timeout=100))
    drive.ready("b", credits_=0)
    attempt = drive.out()[0]
    drive.tell(NodeLost("a"))
    drive.now = 1000
    drive.tell(NodeJoined("a"))
    drive.held("a", (attempt, 0))
    tick(drive, 99)
    assert drive.state() is State.RUNNING


def test_a_job_that_ends_closes_what_is_adrift() -> None:
    drive = at_work()
    drive.tell(BROKEN)
    assert ClosePool(JOB, "a", abort=True) in drive.tell(JobCancelled(JOB))
    assert drive.held("a", (1, 0)) == []


# ---- a node that still holds something ----


def test_an_attempt_of_a_settled_or_an_unknown_mini_batch_is_ended() -> None:
    drive = at_work(2)
    settled = drive.out()[0]
    drive.succeed(0)
    drive.tell(BROKEN)
    commands = drive.held("a", (settled, 0), (EARLIER, 99), (drive.out()[1], 1))
    assert of_ended(commands) == [settled, EARLIER]


def test_a_node_that_comes_back_goes_on_with_what_still_waits_and_ends_what_runs_elsewhere() -> None:
    drive = at_work(2, nodes=("a", "b"))
    first, second = drive.out()[0], drive.out()[1]
    drive.tell(NodeLost("a"))
    drive.ready("b", credits_=1)
    drive.tell(NodeJoined("a"))
    assert of_ended(drive.held("a", (first, 0), (second, 1))) == [first]
    assert drive.out()[1] == second
    drive.end(second)
    assert drive.job.counts.succeeded_items == 10


def test_a_failure_that_is_told_again_is_no_second_try() -> None:
    drive = at_work(limits=whole(run_max_try=2))
    failed = drive.out()[0]
    drive.fail(0)
    drive.tell(BROKEN)
    assert of_ended(drive.held("a", (failed, 0))) == [failed]
    drive.end_badly(failed)
    assert drive.job.waiting[0].tries == 1
    assert drive.job.counts.failed_items == 0


def test_an_attempt_of_another_part_is_ended() -> None:
    drive = at_work(limits=Limits(run_max_try=1, error_threshold=-1))
    drive.fail(0)
    drive.tell(BROKEN)
    late = HeldAttempt(EARLIER, index=0, part=0)
    assert of_ended(drive.tell(AttemptsHeld(JOB, "a", [late]))) == [EARLIER]


# ---- a scheduler that starts again ----


def started_again(nodes: tuple[str, ...] = ("a", "b"), expected: tuple[str, ...] = ("b",), **settings: int) -> Drive:
    """Three mini-batches are planned, node a has room for all, and `expected` may hold some."""
    drive = Drive(whole(**settings), nodes=nodes, expected=expected)
    drive.plan(3)
    drive.ready("a", credits_=4)
    return drive


def test_after_a_start_nothing_is_dispatched_before_all_expected_nodes_have_told_what_they_hold() -> None:
    drive = started_again(expected=("a", "b"))
    assert dispatched(drive.held("a")) == []
    assert dispatched(drive.held("b")) == [0, 1, 2]


def test_what_a_node_held_over_a_start_is_not_run_again() -> None:
    drive = started_again()
    commands = drive.held("b", (EARLIER, 1))
    assert dispatched(commands) == [0, 2]
    assert drive.on("b") == [1]
    assert drive.job.pools["b"].open == 1
    assert drive.end(EARLIER)
    assert drive.job.counts.succeeded_mini_batches == 1


def test_what_was_not_read_from_the_plan_yet_is_adopted_too() -> None:
    drive = Drive(nodes=("b",), expected=("b",))
    drive.tell(PlanGrew(JOB, 3, 30, ended=True))
    opened = MiniBatch(1, 10, tries=2)
    commands = drive.held("b", (EARLIER, 1), opened=[opened])
    assert commands == [TellState(JOB, State.RUNNING)]
    drive.ready("b")
    assert dispatched(drive.tell(MiniBatchesPlanned(JOB, [MiniBatch(0, 10), MiniBatch(2, 10)]))) == [0, 2]
    drive.end_badly(EARLIER)
    assert drive.job.counts.failed_items == 10


def test_an_attempt_whose_failure_is_in_the_database_is_not_taken_over() -> None:
    drive = Drive(nodes=("b",), expected=("b",))
    drive.tell(PlanGrew(JOB, 1, 10, ended=True))
    commands = drive.held("b", (EARLIER, 0), opened=[MiniBatch(0, 10, tries=1, ended=EARLIER)])
    assert of_ended(commands) == [EARLIER]
    assert drive.waiting() == [0]


def test_of_two_nodes_that_hold_the_same_mini_batch_one_goes_on() -> None:
    drive = started_again(expected=("a", "b"))
    drive.held("a", (EARLIER, 1))
    assert of_ended(drive.held("b", (EARLIER + 1, 1), opened=[MiniBatch(1, 10)])) == [EARLIER + 1]
    assert sorted(drive.out()) == [0, 1, 2]


def test_a_part_that_a_node_held_over_a_start_goes_on() -> None:
    drive = Drive(Limits(run_max_try=1, error_threshold=-1), nodes=("b",), expected=("b",))
    drive.tell(PlanGrew(JOB, 1, 10, ended=True))
    halves = [MiniBatch(0, 5, first=first, level=1) for first in (0, 5)]
    half_way = Isolation(0, 10, level=1, runs=2, open=list(halves))
    held = [HeldAttempt(EARLIER, 0, halves[1].part)]
    assert of_ended(drive.tell(AttemptsHeld(JOB, "b", held, isolations=[half_way]))) == []
    assert drive.parts_out() == {(5, 5): EARLIER}
    assert [each.first for each in drive.job.waiting] == [0]


@pytest.mark.parametrize("known", [True, False])
def test_an_expected_node_that_is_lost_holds_nothing_up(known: bool) -> None:
    drive = started_again(nodes=("a", "b") if known else ("a",))
    assert dispatched(drive.tell(NodeLost("b"))) == [0, 1, 2]


def test_an_expected_node_that_refuses_the_stream_holds_nothing_up() -> None:
    drive = started_again()
    assert dispatched(drive.tell(StreamEnded(JOB, "b"))) == [0, 1, 2]


def test_an_expected_node_is_waited_for_while_it_cannot_be_reached_and_for_a_lease_at_most() -> None:
    drive = started_again()
    drive.tell(StreamEnded(JOB, "b", broken=True))
    assert dispatched(drive.tell(Ticked())) == []
    drive.now = 14.9
    assert dispatched(drive.tell(Ticked())) == []
    drive.now = 15.0
    assert dispatched(drive.tell(Ticked())) == [0, 1, 2]


def test_the_place_of_an_expected_node_is_kept_for_it() -> None:
    drive = Drive(whole(node_count=1), nodes=("a",), expected=("b",))
    assert not of_kind(drive.commands, OpenPool)
    assert drive.tell(NodeJoined("b")) == [OpenPool(JOB, "b")]


# ---- nodes that drain ----


def test_a_draining_node_that_was_cut_off_is_asked_for_what_it_holds_and_then_ends_it() -> None:
    drive = at_work()
    drive.tell(BROKEN)
    assert drive.tell(NodeDraining("a")) == []
    assert tick(drive) == [OpenPool(JOB, "a")]
    assert drive.held("a", (drive.out()[0], 0)) == [ClosePool(JOB, "a")]
    drive.succeed(0)
    assert drive.job.counts.succeeded_items == 10


def test_a_draining_node_that_is_expected_is_asked_for_what_it_holds() -> None:
    drive = Drive(nodes=(), expected=("b",))
    drive.plan(1)
    drive.tell(NodeJoined("b"))
    drive.tell(NodeDraining("b"))
    assert drive.held("b", (EARLIER, 0)) == [ClosePool(JOB, "b"), TellState(JOB, State.RUNNING)]
    assert drive.on("b") == [0]


# ---- nodes that are lost ----


def lose_and_go_on(drive: Drive) -> list[RecordLoss]:
    """Node a is lost and comes back, and gets what it had."""
    lost = drive.tell(NodeLost("a"))
    drive.tell(NodeJoined("a"))
    drive.ready("a", workers=1, credits_=1)
    return [each for each in lost if isinstance(each, RecordLoss)]


def test_after_three_losses_each_further_one_is_a_try_once_it_is_recorded() -> None:
    drive = at_work(limits=Limits(run_max_try=2))
    for _ in range(3):
        assert lose_and_go_on(drive) == []
    for tries in (0, 1):
        attempt = drive.out()[0]
        (loss,) = lose_and_go_on(drive)
        assert (loss.attempt_id, loss.failure.kind) == (attempt, FailureKind.NODE_LOST)
        assert drive.job.running[attempt].mini_batch.tries == tries
        drive.end_badly(attempt, loss.failure)
    assert (drive.job.counts.failed_mini_batches, drive.job.counts.failed_items) == (1, 10)
    assert drive.job.counts.retried_attempts == 1
    assert not drive.job.isolations


def test_a_loss_that_is_being_recorded_is_not_undone_by_the_node_that_comes_back() -> None:
    drive = at_work(limits=whole(run_max_try=1))
    for _ in range(3):
        lose_and_go_on(drive)
    attempt = drive.out()[0]
    (loss,) = lose_and_go_on(drive)
    assert of_ended(drive.held("a", (attempt, 0))) == [attempt]
    drive.end_badly(attempt, loss.failure)
    assert drive.job.counts.failed_items == 10


def test_only_as_many_as_a_node_had_workers_may_have_begun() -> None:
    drive = at_work(4)
    drive.tell(NodeLost("a"))
    assert [each.lost for each in drive.job.waiting] == [1, 1, 0, 0]


def test_a_node_that_leaves_costs_nobody_anything() -> None:
    drive = at_work()
    drive.tell(NodeLost("a", left=True))
    assert [each.lost for each in drive.job.waiting] == [0]


def test_a_crash_is_remembered() -> None:
    drive = at_work(2)
    drive.fail(0, CRASHED)
    drive.fail(1, RAISED)
    assert [each.crashed for each in drive.job.waiting] == [False, True]


def test_the_number_of_a_try_goes_on_over_a_takeover() -> None:
    drive = at_work(limits=whole(run_max_try=3))
    drive.fail(0)
    drive.tell(CreditsGranted(JOB, "a", 1))
    attempt = drive.out()[0]
    drive.tell(BROKEN)
    drive.held("a", (attempt, 0))
    drive.tell(CreditsGranted(JOB, "a", 1))
    (again,) = [each for each in drive.fail(0) if isinstance(each, Dispatch)]
    assert again.attempts[0][1].tries == 2


def test_the_end_of_an_attempt_counts_once() -> None:
    drive = at_work()
    attempt = drive.out()[0]
    drive.tell(AttemptsEnded(JOB, [AttemptEnd(attempt, 10, 0, 10), AttemptEnd(attempt, 10, 0, 10)]))
    assert drive.job.counts.succeeded_items == 10


# ---- a node that fails in init() before the others are back ----

SUSPECT = PoolChanged(JOB, "a", PoolPhase.FAILED, failure=Failure(FailureKind.INIT_FAILED, "init() raised"))


def test_a_job_does_not_fail_with_its_first_node_while_others_that_served_it_are_expected() -> None:
    drive = Drive(nodes=("a",), expected=("a", "b"))
    drive.plan(1)
    drive.held("a")
    drive.tell(SUSPECT)
    assert drive.state() is State.PENDING
    drive.tell(NodeJoined("b"))
    drive.held("b")
    drive.ready("b")
    drive.succeed(0)
    assert drive.state() is State.COMMITTING


def test_it_fails_when_none_of_them_has_come_in_time() -> None:
    drive = Drive(nodes=("a",), expected=("a", "b"))
    drive.plan(1)
    drive.held("a")
    drive.tell(SUSPECT)
    drive.now = 15.0
    drive.tell(Ticked())
    assert drive.state() is State.ENDING
    assert drive.job.error is not None
    assert drive.job.error.message == "init() raised"


# ---- the files of a summary_only job, which its workers may write at their end ----

FILES = whole(needs_rows=False)
FINISHED = ClosePool(JOB, "a")


def test_an_output_of_files_waits_for_workers_that_no_stream_leads_to() -> None:
    drive = at_work(limits=FILES)
    drive.tell(BROKEN)
    drive.succeed(0)
    assert drive.state() is State.RUNNING
    assert OpenPool(JOB, "a") in tick(drive)
    assert FINISHED in drive.held("a")
    assert drive.state() is State.COMMITTING


@pytest.mark.parametrize("end", [NodeLost("a"), StreamEnded(JOB, "a"), Ticked()])
def test_it_waits_no_longer_than_the_node_does(end: NodeLost | StreamEnded | Ticked) -> None:
    drive = at_work(limits=FILES)
    drive.tell(BROKEN)
    drive.succeed(0)
    drive.now = 15.0 if isinstance(end, Ticked) else 1.0
    drive.tell(end)
    tick(drive)
    assert drive.state() is State.COMMITTING


def test_after_a_start_it_waits_for_the_nodes_that_served_it() -> None:
    done = Counts(planned_mini_batches=1, planned_items=10, planning_ended=True, succeeded_mini_batches=1)
    drive = Drive(FILES, nodes=(), expected=("a",), counts=done)
    assert drive.tell(NodeJoined("b")) == []
    assert drive.tell(NodeJoined("a")) == [OpenPool(JOB, "a")]
    assert drive.state() is State.PENDING
    assert FINISHED in drive.held("a")
    assert drive.state() is State.COMMITTING
