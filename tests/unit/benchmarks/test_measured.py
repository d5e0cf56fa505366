"""Rounds become medians, ratios and targets that are met or not."""

from __future__ import annotations

import pytest
from measured import Claim, Failed, Round, Spread, interleaved, less, ratios


def rounds(*seconds: float, count: int = 100) -> list[Round]:
    """Rounds that took so long."""
    return [Round(each, count) for each in seconds]


def test_a_ratio_compares_rates_and_not_times() -> None:
    assert ratios(rounds(2.0, count=400), rounds(1.0, count=100)) == Spread(2.0, 2.0, 2.0)


def test_ratios_are_taken_round_by_round_so_that_a_slow_minute_meets_both() -> None:
    assert ratios(rounds(1, 10, 2), rounds(2, 20, 6)) == Spread(2.0, 2.0, 3.0)


def test_a_fixed_cost_is_taken_off_each_round() -> None:
    assert [each.seconds for each in less(rounds(3.0, 4.0), rounds(1.0, 0.5))] == [2.0, 3.5]


@pytest.mark.parametrize(
    ("value", "bound", "at_least", "met"),
    [(2.0, 2.0, True, True), (1.9, 2.0, True, False), (1.15, 1.15, False, True), (1.2, 1.15, False, False)],
)
def test_a_target_is_judged_by_the_median(value: float, bound: float, at_least: bool, met: bool) -> None:
    assert Claim("a target", Spread(value, 0.1, 9.0), bound, at_least).met is met


def test_the_bound_of_a_time_is_the_inverse_of_that_of_a_speed() -> None:
    assert Claim("time", Spread(1, 1, 1), 1.25, at_least=False).times_as_fast == 0.8
    assert Claim("speed", Spread(1, 1, 1), 2).times_as_fast == 2


def test_ways_run_in_turn() -> None:
    order: list[str] = []

    def way(name: str) -> Round:
        order.append(name)
        return Round(1.0, 1)

    measured = interleaved({"a": lambda: way("a"), "b": lambda: way("b")}, 3)
    assert order == ["a", "b"] * 3
    assert {name: len(each) for name, each in measured.items()} == {"a": 3, "b": 3}


def test_a_peer_that_fails_once_has_no_figures_and_costs_the_others_none(capsys: pytest.CaptureFixture[str]) -> None:
    tried: list[int] = []

    def fails_the_second_time() -> Round:
        tried.append(len(tried))
        if len(tried) == 2:
            raise Failed("its log says why")
        return Round(1.0, 1)

    measured = interleaved({"ours": lambda: Round(1.0, 1), "theirs": fails_the_second_time}, 4)
    assert (len(measured["ours"]), measured["theirs"], len(tried)) == (4, [], 2)
    assert capsys.readouterr().err == "theirs is left out: its log says why\n"
