"""Finding bad items: what is split, in which order, within which budget; the same whatever ended first or died."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchmesh.scheduler.isolation import Isolation, PartRow, budget, restored

from .search import Search, inputs, searched


@pytest.mark.parametrize(("items", "runs"), [(2, 4), (3, 8), (4, 8), (5, 12), (1000, 40), (1024, 40), (1025, 44)])
def test_the_budget_is_four_runs_for_each_halving(items: int, runs: int) -> None:
    assert budget(items) == runs == 4 * math.ceil(math.log2(items))


def test_the_search_goes_as_it_is_drawn() -> None:
    search = searched(8, {5})
    assert search.ran == [(0, 4), (4, 4), (4, 2), (6, 2), (4, 1), (5, 1), (5, 1)]
    assert search.failed() == {5}


@given(st.integers(2, 5000), st.data())
def test_a_single_bad_item_is_found_alone(items: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, items - 1))
    search = searched(items, {bad})
    assert search.failed() == {bad}
    assert len(search.ran) <= 2 * math.ceil(math.log2(items)) + 1


@given(inputs())
def test_no_bad_item_succeeds_and_the_budget_is_never_exceeded(drawn: tuple[int, frozenset[int]]) -> None:
    items, bad = drawn
    search = searched(items, bad)
    assert bad <= search.failed()
    assert len(search.ran) <= budget(items)
    assert sum(row.items for row in search.rows.values()) == items


@given(inputs(), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_neither_the_order_of_ends_nor_crashes_change_what_fails_or_how_much_runs(
    drawn: tuple[int, frozenset[int]], data: st.DataObject
) -> None:
    plain, search = searched(*drawn), Search(*drawn)
    isolation = search.begin()
    while isolation.open:
        isolation = shaken(search, isolation, data)
    assert search.rows == plain.rows
    assert sorted(search.ran) == sorted(plain.ran)
    same = search.finish(search.restore())
    assert (same.failed_items, same.succeeded_items, same.rows) == (
        isolation.failed_items,
        isolation.succeeded_items,
        isolation.rows,
    )
    assert same.failed_parts == isolation.failed_parts > 0
    assert same.runs == isolation.runs == len(search.ran)


def shaken(search: Search, isolation: Isolation, data: st.DataObject) -> Isolation:
    """Any open part ends next, and the scheduler may die before or after it."""
    if data.draw(st.booleans()):
        isolation = search.restore()
    search.run(isolation, data.draw(st.sampled_from(isolation.open)))
    return search.restore() if data.draw(st.booleans()) else isolation


@given(inputs(), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_when_what_failed_is_forgotten_it_alone_runs_again(
    drawn: tuple[int, frozenset[int]], data: st.DataObject
) -> None:
    """As `resume --failed` has it: the rows of failed parts are deleted, those of good ones stay."""
    search = searched(*drawn)
    failed = search.failed()
    search.rows = {first: row._replace(runs=0) for first, row in search.rows.items() if not row.failed}
    if not search.rows:
        return
    search.bad, search.ran = frozenset(data.draw(st.sets(st.sampled_from(sorted(failed))))), []
    isolation = search.restore()
    assert {item for part in isolation.open for item in range(part.first, part.first + part.items)} == failed
    while isolation.open:
        isolation = shaken(search, isolation, data)
    assert {item for first, items in search.ran for item in range(first, first + items)} == failed
    assert search.bad <= search.failed() <= failed
    assert sum(row.items for row in search.rows.values()) == search.items
    assert isolation.succeeded_items == search.items - len(search.failed())


def test_what_does_not_fit_into_the_budget_fails_whole() -> None:
    search = searched(16, range(16))
    assert len(search.ran) <= budget(16)
    assert search.failed() == set(range(16))
    assert max(row.items for row in search.rows.values()) > 1


def test_an_item_that_fails_once_alone_is_not_bad() -> None:
    search = Search(4, frozenset({2}))
    isolation = search.begin()
    while (2, 1) not in search.ran:
        search.run(isolation, isolation.open[0])
    search.bad = frozenset()
    search.finish(isolation)
    assert search.failed() == set()
    assert isolation.failed_parts == 0


def test_what_failed_for_good_some_levels_ago_stays_failed_over_a_start() -> None:
    rows = [
        PartRow(0, 8, 1, 2, 1, False, 8, 0, 8),
        PartRow(8, 4, 2, 4, 1, failed=True),
        PartRow(12, 2, 3, 6, 1, False, 2, 0, 2),
        PartRow(14, 1, 4, 16, 1, False, 1, 0, 1),
        PartRow(15, 1, 4, 16, 1, failed=True),
    ]
    ended = restored(0, 16, rows)
    assert (ended.open, ended.failed_items, ended.failed_parts, ended.succeeded_items) == ([], 5, 2, 11)
