"""Why a job does not go on, and which reasons have a time limit."""

from __future__ import annotations

import pytest

from batchmesh.scheduler.events import NodeJoined, NodeLost, PlanningHeldUp, PoolChanged, StreamEnded, Ticked
from batchmesh.scheduler.model import FailureKind, PoolPhase, State
from batchmesh.scheduler.standstill import waiting_for

from .drive import JOB, Drive, whole

FULL = "the disk of storage is full"


def test_waiting_for_names_what_holds_a_job_up() -> None:
    drive = Drive(nodes=())
    assert "no node has joined" in waiting_for(drive.job, has_nodes=False)
    drive.tell(NodeJoined("a"))
    drive.tell(PoolChanged(JOB, "a", PoolPhase.WAITING_FOR_SLOTS))
    assert "slots" in waiting_for(drive.job, has_nodes=True)
    drive.tell(PoolChanged(JOB, "a", PoolPhase.WARMING))
    assert "init()" in waiting_for(drive.job, has_nodes=True)
    drive.plan(1)
    drive.ready()
    assert waiting_for(drive.job, has_nodes=True) == ""


def test_after_a_start_a_job_waits_for_the_nodes_that_served_it() -> None:
    drive = Drive(nodes=("a",), expected=("b",))
    assert "served it before" in waiting_for(drive.job, has_nodes=True)


def test_a_job_whose_nodes_cannot_be_reached_says_so() -> None:
    drive = Drive()
    drive.tell(StreamEnded(JOB, "a", broken=True))
    assert "cannot be reached" in waiting_for(drive.job, has_nodes=True)


def test_what_holds_planning_up_is_named_and_has_no_time_limit() -> None:
    drive = Drive(whole(first_timeout=5))
    drive.tell(PoolChanged(JOB, "a", PoolPhase.READY, 2))
    drive.tell(PlanningHeldUp(JOB, "no node can look into it"))
    assert waiting_for(drive.job, has_nodes=True) == "no node can look into it"
    drive.now = 100.0
    drive.tell(Ticked())
    assert drive.state() is State.PENDING
    drive.tell(PlanningHeldUp(JOB, ""))
    assert waiting_for(drive.job, has_nodes=True) == "the input is being listed"
    drive.now = 104.0
    drive.tell(Ticked())
    assert drive.state() is State.PENDING
    drive.now = 106.0
    drive.tell(Ticked())
    assert drive.state() is State.ENDING


def test_a_full_disk_is_named_although_attempts_run() -> None:
    drive = Drive()
    drive.plan(1)
    drive.ready()
    drive.tell(PoolChanged(JOB, "a", PoolPhase.READY, 2, held_up=FULL))
    assert waiting_for(drive.job, has_nodes=True) == FULL
    drive.tell(PoolChanged(JOB, "a", PoolPhase.READY, 2))
    assert waiting_for(drive.job, has_nodes=True) == ""


def test_while_no_node_can_be_reached_the_clock_stands_still() -> None:
    drive = Drive(whole(progress_timeout=5))
    drive.plan(1)
    drive.ready()
    drive.tell(StreamEnded(JOB, "a", broken=True))
    drive.now = 6.0
    drive.tell(Ticked())
    drive.held("a", (drive.out()[0], 0))
    drive.now = 10.0
    drive.tell(Ticked())
    assert drive.state() is State.RUNNING


@pytest.mark.parametrize(
    "standstill",
    [
        PoolChanged(JOB, "a", PoolPhase.READY, 2, held_up=FULL),
        PoolChanged(JOB, "a", PoolPhase.WARMING),
    ],
)
def test_a_named_standstill_has_no_limit_and_the_clock_starts_anew_behind_it(standstill: PoolChanged) -> None:
    drive = Drive(whole(progress_timeout=100))
    drive.plan(1)
    drive.ready()
    drive.tell(standstill)
    for drive.now in (50, 150, 1000):
        drive.tell(Ticked())
    drive.ready()
    drive.now = 1099
    drive.tell(Ticked())
    assert drive.state() is State.RUNNING
    drive.now = 1101
    drive.tell(Ticked())
    assert drive.job.error is not None
    assert drive.job.error.kind is FailureKind.STALLED


def test_a_job_whose_node_is_lost_waits_for_another_one_without_a_limit() -> None:
    drive = Drive(whole(progress_timeout=100))
    drive.plan(1)
    drive.ready()
    drive.tell(NodeLost("a"))
    drive.now = 1000
    drive.tell(Ticked())
    assert drive.state() is State.RUNNING
