"""How much may wait: windows and credits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmesh.agent.window import MOST, Window, credits_to_return


@pytest.mark.parametrize(
    ("elapsed_us", "along"), [(10, MOST), (500, 20), (5_000, 2), (10_001, 0), (60_000_000, 0), (0, MOST)]
)
def test_what_is_sent_along_covers_ten_milliseconds(elapsed_us: int, along: int) -> None:
    window = Window()
    window.saw([elapsed_us] * 8)
    assert window.along == along


def test_nothing_is_sent_along_before_enough_was_seen() -> None:
    window = Window()
    window.saw([10] * 7)
    assert (window.along, window.waiting) == (0, 1)


def test_one_slow_mini_batch_closes_the_window() -> None:
    window = Window()
    window.saw([10] * 100)
    window.saw([50_000])
    assert window.along == 0


def test_two_workers_begin_with_four_credits() -> None:
    assert credits_to_return(4, 0, 0, leaving=False) == 4


def test_credits_wait_until_half_the_window_is_free_unless_something_leaves_anyway() -> None:
    assert credits_to_return(100, 60, 0, leaving=False) == 0
    assert credits_to_return(100, 60, 0, leaving=True) == 40
    assert credits_to_return(100, 50, 0, leaving=False) == 50


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 1000), st.booleans())
def test_no_more_is_asked_for_than_the_window_holds(targets: int, here: int, granted: int, leaving: bool) -> None:
    returned = credits_to_return(targets, here, granted, leaving=leaving)
    assert returned == 0 or here + granted + returned == targets
