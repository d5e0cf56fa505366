"""How many nodes a target should have, without a job, a node or a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmesh.scheduler.scaling import Bounds, Need, Size, needed, resized

FOUR = Bounds(min_nodes=0, max_nodes=4, idle_seconds=10.0, slots=2)


@pytest.mark.parametrize(
    ("jobs", "nodes"),
    [
        ([], 0),
        ([Need(0, planning=False)], 0),
        ([Need(1, planning=False)], 1),
        ([Need(2, planning=False)], 1),
        ([Need(3, planning=False)], 2),
        ([Need(1000, planning=False)], 500),
        ([Need(1000, planning=False, node_count=2)], 2),
        ([Need(3, planning=False, node_count=2)], 2),
        ([Need(2, planning=False, node_count=2)], 1),
    ],
)
def test_a_job_needs_no_more_nodes_than_its_node_count_and_its_mini_batches(jobs: list[Need], nodes: int) -> None:
    assert needed(jobs, FOUR) == nodes


def test_fewer_processes_a_node_need_more_nodes_and_never_more_than_its_slots() -> None:
    assert needed([Need(4, planning=False, processes=1)], FOUR) == 4
    assert needed([Need(4, planning=False, processes=16)], FOUR) == 2


def test_a_job_whose_input_is_being_listed_needs_one_node_to_begin_with() -> None:
    assert needed([Need(0, planning=True)], FOUR) == 1
    assert needed([Need(6, planning=True)], FOUR) == 3


def test_jobs_share_nodes() -> None:
    assert needed([Need(4, planning=False), Need(6, planning=False, node_count=1)], FOUR) == 2


def test_nodes_come_at_once_and_stay_within_the_bounds() -> None:
    assert resized(Size(0, 0.0), FOUR, need=3, now=1.0).nodes == 3
    assert resized(Size(3, 0.0), FOUR, need=9, now=2.0).nodes == 4
    assert resized(Size(0, 0.0), FOUR._replace(min_nodes=1), need=0, now=0.0).nodes == 1


def test_nodes_go_after_the_idle_time_without_need_and_not_before() -> None:
    size = resized(Size(0, 0.0), FOUR, need=2, now=100.0)
    assert resized(size, FOUR, need=0, now=109.9).nodes == 2
    assert resized(size, FOUR, need=0, now=110.0).nodes == 0


def test_need_within_the_idle_time_starts_it_anew() -> None:
    size = resized(Size(0, 0.0), FOUR, need=2, now=100.0)
    size = resized(size, FOUR, need=0, now=105.0)
    size = resized(size, FOUR, need=2, now=109.0)
    assert resized(size, FOUR, need=0, now=118.0).nodes == 2
    assert resized(size, FOUR, need=0, now=119.0).nodes == 0


def test_a_need_that_has_grown_smaller_keeps_as_many_after_the_idle_time() -> None:
    size = resized(Size(0, 0.0), FOUR, need=4, now=0.0)
    assert resized(size, FOUR, need=1, now=9.0).nodes == 4
    assert resized(size, FOUR, need=1, now=10.0).nodes == 1


def test_a_smaller_maximum_and_a_shorter_idle_time_hold_from_now_on() -> None:
    size = resized(Size(0, 0.0), FOUR, need=4, now=0.0)
    assert resized(size, FOUR._replace(max_nodes=2), need=4, now=1.0).nodes == 2
    size = resized(size, FOUR._replace(idle_seconds=1.0), need=0, now=2.0)
    assert resized(size, FOUR._replace(idle_seconds=1.0), need=0, now=3.0).nodes == 0


@given(
    st.integers(0, 4),
    st.integers(0, 4),
    st.floats(0, 100),
    st.lists(st.tuples(st.floats(0, 60), st.integers(0, 20)), max_size=30),
)
def test_the_size_is_always_within_its_bounds_and_enough_or_the_maximum(
    low: int, more: int, idle: float, needs: list[tuple[float, int]]
) -> None:
    bounds = Bounds(low, max(1, low + more), idle, slots=1)
    size, now = Size(0, 0.0), 0.0
    for pause, need in needs:
        now += pause
        size = resized(size, bounds, need, now)
        assert bounds.min_nodes <= size.nodes <= bounds.max_nodes
        assert size.nodes >= min(need, bounds.max_nodes)
        assert size.until <= now + idle
