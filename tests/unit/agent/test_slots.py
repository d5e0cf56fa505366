"""Who gets the slots: claims about the pure decision, the last ones over random nodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchmesh.agent.slots import Claim, Moves, decide


def claim(pool: int, wanted: int = 0, live: int = 0, ending: int = 0, since: int | None = None) -> Claim:
    return Claim(pool, wanted, live, ending, pool if since is None else since)


def test_free_slots_go_to_who_came_first() -> None:
    assert decide(3, [claim(1, wanted=2), claim(2, wanted=2)]) == Moves([1, 2, 1], [])


def test_a_pool_without_any_worker_comes_before_one_that_wants_more() -> None:
    assert decide(3, [claim(1, wanted=3, live=2), claim(2, wanted=1)]) == Moves([2], [])


def test_idle_pools_yield_the_longest_idle_first() -> None:
    claims = [claim(1, live=1, since=5), claim(2, live=1, since=3), claim(3, wanted=1, since=6)]
    assert decide(2, claims) == Moves([], [2])


def test_idle_pools_keep_what_nobody_wants() -> None:
    assert decide(2, [claim(1, live=2)]) == Moves([], [])


def test_a_pool_without_a_worker_gets_one_of_the_richest() -> None:
    claims = [claim(1, wanted=3, live=3), claim(2, wanted=2, live=2), claim(3, wanted=2)]
    assert decide(5, claims) == Moves([], [1])


def test_the_last_worker_of_a_pool_is_never_taken() -> None:
    assert decide(2, [claim(1, wanted=1, live=1), claim(2, wanted=1, live=1), claim(3, wanted=1)]) == Moves([], [])


def test_what_ends_already_is_not_asked_for_twice() -> None:
    assert decide(2, [claim(1, wanted=2, live=1, ending=1), claim(2, wanted=2)]) == Moves([], [])


CLAIMS = st.lists(
    st.builds(
        claim,
        st.just(0),
        wanted=st.integers(0, 4),
        live=st.integers(0, 4),
        ending=st.integers(0, 2),
        since=st.integers(0, 9),
    ),
    max_size=6,
).map(lambda claims: [Claim(at, each.wanted, each.live, each.ending, each.since) for at, each in enumerate(claims)])


@given(st.integers(1, 12), CLAIMS)
def test_no_more_workers_live_than_there_are_slots_and_nobody_gets_more_than_wanted(
    slots: int, claims: list[Claim]
) -> None:
    moves = decide(slots, claims)
    taken = sum(each.live + each.ending for each in claims)
    assert not moves.start or taken + len(moves.start) <= slots
    for each in claims:
        assert moves.start.count(each.pool) <= each.short
        assert moves.end.count(each.pool) <= each.live


@given(st.integers(1, 6), st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_the_moves_come_to_rest_and_leave_no_pool_waiting_that_another_could_serve(
    slots: int, wanted: list[int]
) -> None:
    claims = [claim(pool, wanted=each) for pool, each in enumerate(wanted)]
    for _ in range(40):
        moves = decide(slots, claims)
        if moves == Moves([], []):
            break
        claims = [
            Claim(
                each.pool,
                each.wanted,
                each.live + moves.start.count(each.pool) - moves.end.count(each.pool),
                0,
                each.since,
            )
            for each in claims
        ]
    assert moves == Moves([], [])
    assert sum(each.live for each in claims) == min(slots, sum(wanted))
    assert min(slots, len(wanted)) == sum(each.live > 0 for each in claims)
