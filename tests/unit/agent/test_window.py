"""How much may wait: windows and credits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmesh.agent.window import (
    MOST,
    MOST_IN_LINE,
    MOST_NEIGHBOURS,
    Window,
    credits_to_return,
    mini_batches_to_hold,
)


@pytest.mark.parametrize(
    ("elapsed_us", "along"), [(10, MOST), (500, 50), (5_000, 5), (25_001, 0), (60_000_000, 0), (0, MOST)]
)
def test_what_is_sent_along_covers_25_milliseconds(elapsed_us: int, along: int) -> None:
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


@pytest.mark.parametrize(
    ("elapsed_us", "waiting"),
    [
        ([1_000] * 8, MOST_NEIGHBOURS),
        ([15_000] * 7 + [130_000], 17),
        ([250_000] * 8, 2),
        ([60_000_000] * 8, 1),
        ([1_000] * 7, 1),
    ],
)
def test_where_neighbours_share_something_half_a_second_is_covered(elapsed_us: list[int], waiting: int) -> None:
    window = Window()
    window.saw(elapsed_us)
    assert window.waiting_beside_neighbours == waiting


def test_a_node_of_many_workers_holds_no_line_that_takes_long_to_search() -> None:
    windows = [Window() for _ in range(32)]
    for each in windows:
        each.saw([5_000] * 8)
    assert mini_batches_to_hold(windows, neighbours=False) == 32 * 6
    assert mini_batches_to_hold(windows, neighbours=True) == MOST_IN_LINE
    assert mini_batches_to_hold(windows[:2], neighbours=True) == 2 * (1 + MOST_NEIGHBOURS)


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
