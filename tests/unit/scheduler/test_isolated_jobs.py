"""What a job makes of a mini-batch that is searched for its bad items: when it counts, and over deaths of all kinds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmesh.scheduler.events import (
    AttemptEnd,
    AttemptsEnded,
    AttemptsHeld,
    Command,
    Commit,
    Discard,
    FramesDamaged,
    HeldAttempt,
    MiniBatchesPlanned,
    NodeJoined,
    NodeLost,
    OpenPool,
    PlanGrew,
    RecordLoss,
    Seal,
    Settle,
    Ticked,
)
from batchmesh.scheduler.isolation import PartRow, restored
from batchmesh.scheduler.model import Counts, Failure, FailureKind, Limits, MiniBatch, State

from .drive import CRASHED, JOB, NOT_STARTED, RAISED, Drive, of_kind
from .search import Search, searched

SEARCHED = Limits(run_max_try=1, error_threshold=-1)


def broken(limits: Limits = SEARCHED, failure: Failure = RAISED, items: int = 4, others: int = 0) -> Drive:
    """A mini-batch of four items has failed for good; `others` are out."""
    drive = Drive(limits, nodes=("a", "b"))
    drive.tell(PlanGrew(JOB, 1 + others, items * (1 + others), ended=True))
    drive.ready("a", workers=4, credits_=100)
    drive.tell(MiniBatchesPlanned(JOB, [MiniBatch(index, items) for index in range(1 + others)]))
    drive.fail(0, failure)
    return drive


def run_parts(drive: Drive, bad: set[int], failure: Failure = RAISED) -> list[Command]:
    """Ends all parts, level by level; those with a bad item fail."""
    commands: list[Command] = []
    while out := [each for each in drive.job.running.items() if each[1].mini_batch.level]:
        for attempt, running in reversed(out):
            part = running.mini_batch
            if bad & set(range(part.first, part.first + part.items)):
                commands += drive.end_badly(attempt, failure)
            else:
                commands += drive.end(attempt, part.items)
    return commands


@pytest.mark.parametrize("kind", [FailureKind.RUN_RAISED, FailureKind.RUN_TIMEOUT, FailureKind.OUT_OF_MEMORY])
def test_a_mini_batch_that_run_has_failed_for_good_is_split(kind: FailureKind) -> None:
    drive = broken(failure=Failure(kind, "no"))
    assert drive.parts_out().keys() == {(0, 2), (2, 2)}
    assert drive.job.counts.failed_items == 0


@pytest.mark.parametrize(
    ("limits", "failure", "items"),
    [
        (SEARCHED, Failure(FailureKind.READ_FAILED, "gone"), 4),
        (SEARCHED, Failure(FailureKind.BAD_RETURN, "too many"), 4),
        (SEARCHED, Failure(FailureKind.NODE_LOST, "gone"), 4),
        (SEARCHED, RAISED, 1),
        (Limits(run_max_try=1, error_threshold=-1, isolate_failures=False), RAISED, 4),
    ],
)
def test_what_was_not_runs_fault_or_cannot_be_split_fails_whole(limits: Limits, failure: Failure, items: int) -> None:
    drive = broken(limits, failure, items, others=1)
    assert not drive.job.isolations
    assert (drive.job.counts.failed_mini_batches, drive.job.counts.failed_items) == (1, items)


def test_a_mini_batch_is_split_only_when_its_tries_are_used_up() -> None:
    drive = broken(Limits(run_max_try=2))
    assert not drive.job.isolations
    drive.fail(0)
    assert 0 in drive.job.isolations


def test_nothing_counts_before_the_search_has_ended() -> None:
    drive = broken(Limits(run_max_try=1, error_threshold=1, allowed_failed_count=1))
    before = Counts(planned_mini_batches=1, planned_items=4, planning_ended=True)
    drive.end(drive.parts_out()[2, 2], 2)
    before.retried_attempts = 1
    assert drive.job.counts == before
    commands = run_parts(drive, {0})
    assert of_kind(commands, Seal) == [Seal(JOB, [0])]
    assert of_kind(commands, Settle) == [Settle(JOB, [0])]
    assert of_kind(commands, Commit)
    assert drive.job.parts_out == 0
    assert drive.job.counts == Counts(
        planned_mini_batches=1,
        planned_items=4,
        planning_ended=True,
        failed_mini_batches=1,
        succeeded_items=3,
        failed_items=1,
        rows=3,
        retried_attempts=5,
    )


def test_the_rows_are_sealed_before_the_mini_batch_is_settled_and_the_output_committed() -> None:
    drive = broken()
    kinds = [type(each) for each in run_parts(drive, {3}) if isinstance(each, Seal | Settle | Commit)]
    assert kinds == [Seal, Settle, Commit]


def test_a_mini_batch_all_of_whose_parts_succeed_has_succeeded() -> None:
    drive = broken()
    run_parts(drive, set())
    counts = drive.job.counts
    assert (counts.succeeded_mini_batches, counts.failed_mini_batches, counts.succeeded_items) == (1, 0, 4)
    assert drive.state() is State.COMMITTING


def test_a_short_return_of_a_part_counts_its_items() -> None:
    drive = broken()
    drive.end(drive.parts_out()[0, 2], 2, failed=1)
    drive.end(drive.parts_out()[2, 2], 2)
    counts = drive.job.counts
    assert (counts.succeeded_mini_batches, counts.failed_items, counts.rows) == (1, 1, 3)


def test_the_next_level_begins_when_the_last_part_of_this_one_has_ended() -> None:
    drive = broken()
    first, second = drive.parts_out()[0, 2], drive.parts_out()[2, 2]
    drive.end_badly(first, CRASHED)
    assert drive.parts_out().keys() == {(2, 2)}
    drive.end_badly(second, Failure(FailureKind.READ_FAILED, "a part may fail by anything"))
    assert drive.parts_out().keys() == {(0, 1), (1, 1), (2, 1), (3, 1)}


def test_a_part_that_never_began_has_not_run() -> None:
    drive = broken()
    drive.end_badly(drive.parts_out()[0, 2], NOT_STARTED)
    assert drive.parts_out().keys() == {(0, 2), (2, 2)}
    assert drive.job.counts.retried_attempts == 0


def test_a_part_that_is_lost_with_its_node_runs_again_and_from_the_fourth_time_on_has_failed() -> None:
    drive = broken(items=2)
    losses: list[Command] = []
    for _ in range(4):
        assert not losses
        losses = of_kind(drive.tell(NodeLost("a")), RecordLoss)
        drive.tell(NodeJoined("a"))
        drive.ready("a", workers=4, credits_=9)
    assert len(losses) == 2
    for each in losses:
        assert isinstance(each, RecordLoss)
        drive.end_badly(each.attempt_id, each.failure)
    assert {running.mini_batch.level for running in drive.job.running.values()} == {2}


def test_parts_wait_in_order_before_all_else() -> None:
    drive = Drive(SEARCHED)
    drive.plan(4, items=4)
    drive.ready("a", credits_=1)
    drive.fail(0)
    assert [(each.index, each.first) for each in drive.job.waiting] == [(0, 0), (0, 2), (1, 0), (2, 0), (3, 0)]


def test_a_mini_batch_that_is_split_is_scheduled_whatever_its_parts_do() -> None:
    """allowed_failed_percent is judged when all are scheduled: half of these have failed, and that is too many."""
    limits = Limits(run_max_try=1, error_threshold=-1, allowed_failed_percent=40.0)
    drive = broken(limits, others=3)
    unsplit = Failure(FailureKind.READ_FAILED, "gone")
    drive.fail(1, unsplit)
    assert drive.state() is State.RUNNING
    drive.fail(2, unsplit)
    assert drive.state() is State.ENDING


def test_parts_that_are_out_are_no_mini_batches() -> None:
    """Two parts out and one mini-batch not even planned to run: not all are scheduled."""
    limits = Limits(run_max_try=1, error_threshold=-1, allowed_failed_percent=10.0)
    drive = Drive(limits)
    drive.tell(PlanGrew(JOB, 3, 12, ended=True))
    drive.ready(credits_=20)
    drive.tell(MiniBatchesPlanned(JOB, [MiniBatch(0, 4), MiniBatch(1, 4)]))
    drive.fail(0)
    drive.fail(1, Failure(FailureKind.READ_FAILED, "gone"))
    assert drive.state() is State.RUNNING


def test_a_job_with_parts_that_wait_opens_pools() -> None:
    drive = broken()
    drive.tell(NodeLost("a"))
    drive.tell(NodeLost("b"))
    assert OpenPool(JOB, "c") in drive.tell(NodeJoined("c"))
    assert OpenPool(JOB, "c") not in drive.tell(Ticked())


def test_a_job_that_ends_forgets_what_it_searched() -> None:
    drive = broken(Limits(run_max_try=1, error_threshold=3), others=1)
    drive.fail(1, Failure(FailureKind.READ_FAILED, "gone"))
    assert of_kind(drive.commands, Discard)
    assert not drive.job.isolations
    assert drive.job.parts_out == 0


def test_a_damaged_frame_of_a_part_makes_the_whole_mini_batch_run_again() -> None:
    drive = broken()
    run_parts(drive, {3})
    lost = Counts(failed_mini_batches=1, succeeded_items=3, failed_items=1, rows=3)
    drive.tell(FramesDamaged(JOB, [MiniBatch(0, 4)], lost))
    drive.ready()
    drive.succeed(0, items=4)
    counts = drive.job.counts
    assert (counts.succeeded_mini_batches, counts.failed_mini_batches, counts.failed_items) == (1, 0, 0)
    assert drive.state() is State.COMMITTING


def test_a_search_goes_on_after_a_start_of_the_scheduler() -> None:
    rows = [PartRow(0, 2, 1, 2, 1, failed=True), PartRow(2, 2, 1, 2, 1, failed=False, succeeded_items=2, rows=2)]
    drive = Drive(SEARCHED)
    drive.tell(PlanGrew(JOB, 1, 4, ended=True))
    drive.ready(credits_=9)
    drive.tell(MiniBatchesPlanned(JOB, [], [restored(0, 4, rows)]))
    assert drive.parts_out().keys() == {(0, 1), (1, 1)}
    run_parts(drive, {1})
    assert (drive.job.counts.succeeded_items, drive.job.counts.failed_items) == (3, 1)


def test_a_search_that_had_ended_and_was_not_sealed_is_sealed_after_a_start() -> None:
    done = [PartRow(0, 1, 1, 2, 1, False, 1, 0, 1), PartRow(1, 1, 2, 3, 2, failed=True)]
    drive = Drive(SEARCHED)
    drive.tell(PlanGrew(JOB, 1, 2, ended=True))
    commands = drive.tell(MiniBatchesPlanned(JOB, [], [restored(0, 2, done)]))
    assert [type(each) for each in commands if isinstance(each, Seal | Settle | Commit)] == [Seal, Settle, Commit]
    assert (drive.job.counts.succeeded_items, drive.job.counts.failed_items) == (1, 1)


def test_a_search_that_two_nodes_tell_of_is_one() -> None:
    drive = Drive(SEARCHED, nodes=("a", "b"), expected=("a", "b"))
    drive.tell(PlanGrew(JOB, 1, 4, ended=True))
    rows = [PartRow(0, 4, 0, 0, 1, failed=True)]
    for node, first in (("a", 0), ("b", 2)):
        part = MiniBatch(0, 2, first=first, level=1).part
        drive.tell(AttemptsHeld(JOB, node, [HeldAttempt(first + 1, 0, part)], isolations=[restored(0, 4, rows)]))
        drive.ready(node)
    assert drive.parts_out() == {(0, 2): 1, (2, 2): 3}
    run_parts(drive, {0})
    assert (drive.job.counts.succeeded_items, drive.job.counts.failed_items) == (3, 1)


@given(st.integers(2, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_a_job_whose_scheduler_dies_at_any_moment_names_the_same_items(items: int, data: st.DataObject) -> None:
    """The whole way, by the Machine. At each death it is built anew from the rows, and the node holds some attempts."""
    bad = data.draw(st.frozensets(st.integers(0, items - 1), min_size=1))
    plain = searched(items, bad)
    search = Search(items, frozenset(bad))
    search.begin()
    epoch = 1
    drive = restarted(search, epoch, held={})
    while drive.state() in (State.PENDING, State.RUNNING):
        attempt = data.draw(st.sampled_from(sorted(drive.job.running)))
        part = drive.job.running[attempt].mini_batch
        level_runs = drive.job.isolations[0].runs
        failed = bool(bad & set(range(part.first, part.first + part.items)))
        good = 0 if failed else part.items
        search.ran.append((part.first, part.items))
        search.tell(PartRow(part.first, part.items, part.level, level_runs, part.tries + 1, failed, good, 0, good))
        end = AttemptEnd(attempt, good, 0, good, RAISED if failed else None)
        if data.draw(st.booleans()):
            drive.tell(AttemptsEnded(JOB, [end]))
        else:
            held = {each: drive.job.running[each].mini_batch.part for each in drive.job.running}
            kept = data.draw(st.sets(st.sampled_from(sorted(held))))
            epoch += 1
            drive = restarted(search, epoch, {each: held[each] for each in kept})
    assert search.rows == plain.rows
    assert drive.job.counts.failed_items == len(plain.failed())
    assert drive.job.counts.succeeded_items == items - len(plain.failed())


def restarted(search: Search, epoch: int, held: dict[int, int]) -> Drive:
    """A scheduler that finds the search in its database, and a node that holds these attempts (id to part)."""
    limits = Limits(run_max_try=1, error_threshold=-1, needs_rows=False)
    counts = Counts(planned_mini_batches=1, planned_items=search.items, planning_ended=True)
    drive = Drive(limits, expected=("a",), counts=counts, epoch=epoch)
    found = restored(0, search.items, list(search.rows.values()))
    told = [HeldAttempt(attempt, 0, part) for attempt, part in held.items()]
    drive.tell(AttemptsHeld(JOB, "a", told, isolations=[found]))
    drive.ready(credits_=1000)
    return drive
