"""Whole lives of jobs in worlds where everything fails at random; the invariants are checked after each event."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.controls import CONTROLS, CountsLosses
from tests.simulation.violation import Violation
from tests.simulation.walk import Walk, walk
from tests.simulation.world import World

#: Worlds within which a switched-off protection is noticed.
_WORLDS = 400


@pytest.mark.parametrize("seed", range(0, 6_000, 1_000))
def test_every_invariant_holds_for_ten_thousand_events(seed: int) -> None:
    walk(10_000, seed)


@pytest.mark.parametrize("protection", CONTROLS)
def test_without_one_of_its_protections_the_walk_goes_wrong(protection: str) -> None:
    how = CONTROLS[protection]
    assert any(isinstance(how.outcome(seed), Violation) for seed in range(_WORLDS))


def test_the_worlds_of_a_walk_meet_what_they_are_there_for() -> None:
    met: Counter[str] = Counter()
    for seed in range(60):
        world = World(seed)
        world.live()
        met += world.met
    rare = {"Seal", "RecordLoss", "FramesDamaged", "NodeDraining", "backup", "taken over", "part taken over"}
    assert not {each for each in rare if met[each] < 3}


def test_a_walk_that_goes_wrong_tells_the_smallest_world_that_shows_it() -> None:
    with pytest.raises(AssertionError) as caught:
        walk(10_000, 0, Walk(machine=CountsLosses))
    told = str(caught.value)
    assert "was dispatched with" in told
    assert "NodeLost" in told
    assert "again: python -m tests.simulation --seed" in told
    assert len(told.splitlines()) < 150
