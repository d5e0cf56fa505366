"""Which agents of compute targets start and end, without a process."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmesh.child import Child
from batchmesh.crew import Changes, Demand, Place, changes

if TYPE_CHECKING:
    from pathlib import Path


def place(number: int, target: str = "cpu", *, alive: bool = True, ending: bool = False, slots: int = 0) -> Place:
    return Place(number, target, slots, f"unix:{number}", alive, ending)


def idle(*numbers: int) -> tuple[str, ...]:
    return tuple(f"unix:{number}" for number in numbers)


def test_what_is_missing_is_started_at_the_lowest_free_numbers() -> None:
    places = [place(2), place(4, "gpu")]
    demands = [Demand("cpu", 3, 0), Demand("gpu", 2, 8)]
    assert changes([place(2)], [Demand("cpu", 3, 0)]) == Changes([(1, "cpu", 0), (3, "cpu", 0)], [])
    assert changes([*places, place(1, "gpu", slots=8)], demands).start == [(3, "cpu", 0), (5, "cpu", 0), (6, "gpu", 8)]


def test_of_a_surplus_only_idle_agents_end_the_youngest_first() -> None:
    places = [place(1), place(2), place(3)]
    assert changes(places, [Demand("cpu", 1, 0, idle(1, 2, 3))]) == Changes([], [3, 2])
    assert changes(places, [Demand("cpu", 1, 0, idle(1))]) == Changes([], [1])
    assert changes(places, [Demand("cpu", 0, 0, ())]) == Changes([], [])
    assert changes(places, [Demand("cpu", 3, 0, idle(1, 2, 3))]) == Changes([], [])


def test_a_dead_agent_that_is_no_longer_wanted_is_not_started_again() -> None:
    places = [place(1, alive=False), place(2)]
    assert changes(places, [Demand("cpu", 1, 0, idle(2))]) == Changes([], [1])
    assert changes(places, [Demand("cpu", 2, 0)]) == Changes([], []), "it is on its way back"


def test_agents_of_a_target_that_is_gone_end_busy_or_not() -> None:
    assert changes([place(1), place(2, "gpu")], [Demand("gpu", 1, 0)]) == Changes([], [1])
    assert changes([place(1), place(2, "gpu")], []) == Changes([], [1, 2])


def test_agents_with_other_slots_make_room_for_right_ones() -> None:
    assert changes([place(1, slots=2)], [Demand("cpu", 1, 4)]) == Changes([(2, "cpu", 4)], [1])


def test_an_agent_that_is_ending_counts_no_more_and_keeps_its_number() -> None:
    assert changes([place(1, ending=True)], [Demand("cpu", 1, 0)]) == Changes([(2, "cpu", 0)], [])
    assert changes([place(1, ending=True)], []) == Changes([], [])


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.booleans(), st.booleans(), st.booleans()), max_size=8
    ),
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 4), st.integers(0, 1))),
)
def test_done_once_nothing_is_left_to_do_and_nobody_who_works_for_a_wanted_target_ends(
    crew: list[tuple[str, int, bool, bool, bool]], wanted: dict[str, tuple[int, int]]
) -> None:
    places = [
        Place(number, target, slots, f"unix:{number}", alive, ending)
        for number, (target, slots, alive, ending, _) in enumerate(crew, 1)
    ]
    free = idle(*(number for number, each in enumerate(crew, 1) if each[4]))
    demands = [Demand(target, nodes, slots, free) for target, (nodes, slots) in wanted.items()]
    todo = changes(places, demands)
    by_number = {each.number: each for each in places}
    for number in todo.end:
        each = by_number[number]
        kept = each.compute_target in wanted and wanted[each.compute_target][1] == each.slots
        assert not kept or not each.alive or each.address in free
    after = [
        *(each._replace(ending=each.ending or each.number in todo.end) for each in places),
        *(Place(number, target, slots, f"unix:{number}") for number, target, slots in todo.start),
    ]
    assert len({each.number for each in after}) == len(after)
    assert changes(after, demands) == Changes([], [])


def test_an_agent_that_cannot_be_started_leaves_nothing_open(tmp_path: Path) -> None:
    """The crew tries again and again: what each try left open would be the supervisor's end."""

    async def story() -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(OSError, match="too long"):
                Child("agent-crew-1", ("--listen", "unix:nowhere", "x" * 2**18), tmp_path)
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(story())
