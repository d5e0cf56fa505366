"""What takes far longer than the others is run a second time, at the tail of a job and only there."""

from __future__ import annotations

import pytest

from batchmesh.scheduler.events import (
    Abort,
    ClosePool,
    Command,
    Dispatch,
    NodeJoined,
    NodeLost,
    PlanGrew,
    StreamEnded,
    Ticked,
)
from batchmesh.scheduler.model import Limits, State
from batchmesh.scheduler.thresholds import all_scheduled

from .drive import CRASHED, JOB, NOT_STARTED, Drive, dispatched, of_ended, of_kind

GOOD = 6


def tail(limits: Limits | None = None, nodes: tuple[str, ...] = ("a", "b"), elapsed: float = 2.0) -> Drive:
    """All but the last mini-batch are done, each in two seconds; that one is out on node a."""
    drive = Drive(limits or Limits(error_threshold=-1), nodes)
    drive.plan(GOOD + 1)
    drive.ready("a", workers=2, credits_=GOOD + 1)
    for index in range(GOOD):
        drive.succeed(index, elapsed=elapsed)
    for node in nodes[1:]:
        drive.ready(node, workers=2, credits_=2)
    return drive


def late(drive: Drive, seconds: float = 6.1) -> list[Command]:
    drive.now += seconds
    return drive.tell(Ticked())


def test_a_straggler_is_run_a_second_time_on_another_node() -> None:
    drive = tail()
    first = drive.out()[GOOD]
    (backup,) = of_kind(late(drive), Dispatch)
    assert isinstance(backup, Dispatch)
    assert backup.node_id == "b"
    assert [(each.index, each.tries) for _, each in backup.attempts] == [(GOOD, 0)]
    assert backup.attempts[0][0] > first
    assert (drive.job.pools["b"].credits, drive.job.pools["b"].open) == (1, 1)


def test_another_node_comes_first_even_when_it_has_more_to_do() -> None:
    drive = tail()
    drive.ready("a", workers=8, credits_=8)
    drive.job.pools["b"].open = 1
    late(drive)
    assert drive.on("b") == [GOOD]


def test_parts_are_not_run_twice() -> None:
    drive = tail(Limits(run_max_try=1, error_threshold=-1))
    drive.fail(GOOD)
    assert len(drive.job.running) == 2
    drive.ready("a", workers=8, credits_=8)
    assert dispatched(late(drive, 100.0)) == []


@pytest.mark.parametrize(("elapsed", "waits"), [(2.0, 6.0), (0.01, 1.0)])
def test_it_has_to_take_three_times_as_long_as_the_others_and_a_second_at_least(elapsed: float, waits: float) -> None:
    drive = tail(elapsed=elapsed)
    assert dispatched(late(drive, waits)) == []
    assert dispatched(late(drive, 0.1)) == [GOOD]


def test_the_first_success_wins_and_the_other_attempt_is_ended() -> None:
    drive = tail()
    first = drive.out()[GOOD]
    late(drive)
    second = drive.out()[GOOD]
    commands = drive.end(second)
    assert of_ended(commands) == [first]
    assert commands.index(Abort(JOB, "a", [first])) < commands.index(ClosePool(JOB, "a"))
    drive.end(first)
    assert drive.job.counts.succeeded_items == (GOOD + 1) * 10
    assert drive.job.counts.retried_attempts == 0
    assert drive.state() is State.COMMITTING


def test_a_failure_while_the_other_one_runs_is_a_try_and_decides_nothing() -> None:
    drive = tail(Limits(run_max_try=2, error_threshold=-1, isolate_failures=False))
    first = drive.out()[GOOD]
    late(drive)
    second = drive.out()[GOOD]
    drive.end_badly(second)
    assert (drive.waiting(), drive.job.counts.failed_items) == ([], 0)
    drive.end_badly(first)
    assert drive.job.counts.failed_items == 10
    assert drive.job.counts.retried_attempts == 1


@pytest.mark.parametrize("lost", ["a", "b"])
def test_when_one_of_two_is_lost_the_other_goes_on_alone(lost: str) -> None:
    drive = tail()
    late(drive)
    drive.tell(NodeLost(lost))
    assert drive.waiting() == []
    assert len(drive.job.running) == 1
    assert not drive.job.twins
    assert dispatched(late(drive, 100.0)) == []
    drive.succeed(GOOD)
    assert drive.state() is State.COMMITTING


def test_a_second_attempt_that_never_began_leaves_the_first_alone() -> None:
    drive = tail()
    first = drive.out()[GOOD]
    late(drive)
    drive.end_badly(drive.out()[GOOD], NOT_STARTED)
    assert list(drive.job.running) == [first]
    assert drive.waiting() == []


def test_there_is_no_third_attempt() -> None:
    drive = tail(nodes=("a", "b", "c"))
    assert dispatched(late(drive)) == [GOOD]
    assert dispatched(late(drive, 100.0)) == []


def test_what_has_crashed_a_worker_or_may_have_lost_a_node_is_not_run_twice_at_once() -> None:
    drive = tail()
    drive.fail(GOOD, CRASHED)
    assert drive.on("b") == [GOOD]
    assert dispatched(late(drive, 100.0)) == []
    again = tail()
    again.tell(NodeLost("a"))
    again.tell(NodeJoined("a"))
    again.ready("a")
    assert dispatched(late(again, 100.0)) == []


def test_a_worker_has_to_be_free() -> None:
    drive = tail()
    drive.job.pools["b"].open = 2
    drive.job.pools["a"].credits = 0
    assert dispatched(late(drive)) == []


def test_while_more_is_to_come_nothing_is_run_twice() -> None:
    drive = Drive(Limits(), nodes=("a", "b"))
    drive.plan(GOOD + 1, ended=False)
    drive.ready("a", workers=2, credits_=GOOD + 1)
    drive.ready("b")
    for index in range(GOOD):
        drive.succeed(index, elapsed=2.0)
    assert dispatched(late(drive, 50.0)) == []
    drive.tell(PlanGrew(JOB, 1, 10, ended=True))
    assert dispatched(late(drive)) == []


def test_too_few_ends_say_nothing() -> None:
    drive = Drive(Limits(), nodes=("a", "b"))
    drive.plan(5)
    drive.ready("a", workers=2, credits_=5)
    drive.ready("b")
    for index in range(4):
        drive.succeed(index, elapsed=0.1)
    assert dispatched(late(drive, 50.0)) == []


@pytest.mark.parametrize(
    ("limits", "nodes", "backed_up"),
    [
        (Limits(), ("a", "b"), True),
        (Limits(), ("a",), False),
        (Limits(needs_rows=False), ("a", "b"), False),
        (Limits(needs_rows=False, backup_attempts=True), ("a", "b"), True),
        (Limits(backup_attempts=True), ("a",), True),
        (Limits(backup_attempts=False), ("a", "b"), False),
    ],
)
def test_backups_are_on_with_more_than_one_node_and_for_summary_only_when_asked(
    limits: Limits, nodes: tuple[str, ...], backed_up: bool
) -> None:
    drive = tail(limits, nodes)
    drive.ready("a", workers=2, credits_=1)
    assert bool(dispatched(late(drive))) is backed_up


def test_a_straggler_on_a_node_that_is_cut_off_is_run_elsewhere_and_the_first_to_tell_wins() -> None:
    drive = tail()
    first = drive.out()[GOOD]
    drive.tell(StreamEnded(JOB, "a", broken=True))
    assert dispatched(late(drive)) == [GOOD]
    second = drive.out()[GOOD]
    drive.held("a", (first, GOOD))
    assert of_ended(drive.end(first)) == [second]
    assert drive.job.counts.succeeded_mini_batches == GOOD + 1


def test_of_two_attempts_of_one_mini_batch_one_counts_as_scheduled() -> None:
    drive = Drive(Limits(error_threshold=-1), nodes=("a", "b", "c"))
    drive.plan(GOOD + 2)
    for node, room in (("a", GOOD + 1), ("c", 1), ("b", 1)):
        drive.ready(node, workers=2, credits_=room)
    for index in range(GOOD):
        drive.succeed(index, elapsed=2.0)
    assert dispatched(late(drive)) == [GOOD]
    assert all_scheduled(drive.job)
    drive.tell(NodeLost("c"))
    assert (drive.on("a"), drive.on("b"), drive.waiting()) == ([GOOD], [GOOD], [GOOD + 1])
    assert not all_scheduled(drive.job)
