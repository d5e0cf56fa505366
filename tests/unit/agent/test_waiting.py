"""The line in which mini-batches wait for a worker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchmesh.agent.waiting import Attempt, Line


def line(*affinities: int) -> Line:
    made = Line()
    for number, affinity in enumerate(affinities):
        made.append(Attempt(number, number, 1, b"", affinity))
    return made


def ids(attempts: list[Attempt]) -> list[int]:
    return [each.attempt_id for each in attempts]


def test_without_affinity_the_first_come_is_the_first_served() -> None:
    waiting = line(0, 0, 0)
    assert ids(waiting.take(0, 2)) == [0, 1]
    assert ids(waiting.take(1, 2)) == [2]


def test_equal_numbers_meet_the_same_worker() -> None:
    waiting = line(7, 7, 8, 8)
    assert ids(waiting.take(0, 1)) == [0]
    assert ids(waiting.take(1, 1)) == [2]
    assert ids(waiting.take(0, 1)) == [1]
    assert ids(waiting.take(1, 1)) == [3]


def test_a_worker_without_a_number_of_its_own_helps_another_rather_than_wait() -> None:
    waiting = line(7, 7)
    waiting.take(0, 1)
    assert ids(waiting.take(1, 1)) == [1]


def test_only_parts_of_row_groups_have_neighbours() -> None:
    assert line(7).has_neighbours
    assert not line(7, 0).has_neighbours
    assert not line().has_neighbours


def test_what_comes_back_from_a_dead_worker_stands_first_in_its_order() -> None:
    waiting = line(0, 0, 0, 0)
    waiting.put_back(waiting.take(0, 2))
    assert ids(waiting.take(1, 4)) == [0, 1, 2, 3]


@given(st.lists(st.integers(0, 3)), st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4))))
def test_each_is_handed_out_once(affinities: list[int], takes: list[tuple[int, int]]) -> None:
    waiting = line(*affinities)
    taken = [attempt for process, count in takes for attempt in waiting.take(process, count)]
    assert sorted(ids(taken) + ids(waiting.clear())) == list(range(len(affinities)))
