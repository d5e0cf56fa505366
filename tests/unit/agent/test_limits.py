"""When a worker has overstayed; time is a parameter."""

from __future__ import annotations

import pytest

from batchmesh.agent import frames
from batchmesh.agent.frames import Kind, Moment
from batchmesh.agent.limits import Limits, Watch

SECOND = 1_000_000_000
LIMITS = Limits(run_invocation_timeout=10, task_overhead_timeout=3)


@pytest.mark.parametrize(
    ("phase", "limit", "kind"),
    [
        (frames.RUNNING, 10, Kind.RUN_TIMEOUT),
        (frames.READING, 3, Kind.READ_FAILED),
        (frames.RENDERING, 13, Kind.BAD_RESULT),
    ],
)
def test_each_phase_has_its_own_limit(phase: int, limit: int, kind: Kind) -> None:
    watch, moment = Watch(), Moment(1, phase, 5 * SECOND)
    assert watch.judge(moment, (5 + limit) * SECOND, 0, LIMITS) is None
    found = watch.judge(moment, (5 + limit) * SECOND + 1000, 0, LIMITS)
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize("phase", [frames.IDLE, frames.SENDING])
def test_waiting_for_the_agent_has_no_limit(phase: int) -> None:
    assert Watch().judge(Moment(1, phase, 0), 10_000 * SECOND, 0, LIMITS) is None


def test_a_paused_agent_gives_what_was_under_way_the_time_of_the_pause() -> None:
    watch, moment = Watch(), Moment(1, frames.RUNNING, 0)
    assert watch.judge(moment, 5 * SECOND, 0, LIMITS) is None
    assert watch.judge(moment, 65 * SECOND, 60 * SECOND, LIMITS) is None
    assert watch.judge(moment, 70 * SECOND, 0, LIMITS) is None
    assert watch.judge(moment, 71 * SECOND, 0, LIMITS) is not None


def test_a_run_that_began_during_the_pause_gets_no_more_than_it_has_stayed() -> None:
    watch, moment = Watch(), Moment(2, frames.RUNNING, 50 * SECOND)
    assert watch.judge(moment, 65 * SECOND, 60 * SECOND, LIMITS) is None
    assert watch.judge(moment, 74 * SECOND, 0, LIMITS) is None
    assert watch.judge(moment, 76 * SECOND, 0, LIMITS) is not None


def test_the_next_mini_batch_has_no_grace_of_the_one_before() -> None:
    watch = Watch()
    watch.judge(Moment(1, frames.RUNNING, 0), 60 * SECOND, 60 * SECOND, LIMITS)
    assert watch.judge(Moment(2, frames.RUNNING, 61 * SECOND), 72 * SECOND, 0, LIMITS) is not None


@pytest.mark.parametrize(("phase", "limit"), [(frames.RUNNING, 10), (frames.RENDERING, 13)])
def test_the_sentence_names_an_item_that_ran_alone(phase: int, limit: int) -> None:
    late, moment = (limit + 1) * SECOND, Moment(1, phase, 0)
    found = Watch().judge(moment, late, 0, LIMITS, "/in/item-7.txt")
    assert found is not None
    assert "run() of /in/item-7.txt " in found.message
    several = Watch().judge(moment, late, 0, LIMITS)
    assert several is not None
    assert "run() of" not in several.message
