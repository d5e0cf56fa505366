"""Services that die come back, but not for ever."""

from __future__ import annotations

from batchmesh.deaths import Deaths


def test_the_first_death_costs_next_to_nothing() -> None:
    assert Deaths().add(5.0, was_ready=True) == 0.1


def test_deaths_in_quick_succession_are_waited_for_longer_up_to_two_seconds() -> None:
    deaths = Deaths()
    pauses = [deaths.add(float(second), was_ready=True) for second in range(8)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_a_service_that_dies_again_and_again_within_a_minute_is_given_up() -> None:
    deaths = Deaths()
    pauses = [deaths.add(float(second), was_ready=True) for second in range(11)]
    assert None not in pauses[:10]
    assert pauses[10] is None


def test_a_service_that_never_gets_ready_is_given_up_soon() -> None:
    deaths = Deaths()
    assert deaths.add(0.0, was_ready=True) is not None
    pauses = [deaths.add(float(second), was_ready=False) for second in range(1, 5)]
    assert None not in pauses[:3]
    assert pauses[3] is None


def test_old_deaths_are_forgotten() -> None:
    deaths = Deaths()
    assert {deaths.add(70.0 * number, was_ready=True) for number in range(50)} == {0.1}
