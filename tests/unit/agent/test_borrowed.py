"""Until when a worker uses what was fetched for it."""

from __future__ import annotations

from batchmesh.agent.borrowed import Borrowed


def borrowed() -> tuple[Borrowed, list[int]]:
    """With one thing for init() and for each of three mini-batches; the numbers of those given back."""
    loans, back = Borrowed(), list[int]()
    for number in range(4):
        loans.add(number, [lambda number=number: back.append(number)])  # type: ignore[misc]
    return loans, back


def test_it_is_given_back_once_its_mini_batch_has_been_answered() -> None:
    loans, back = borrowed()
    loans.answered(0)
    assert back == []
    loans.answered(2)
    loans.answered(2)
    assert back == [1, 2]


def test_what_init_asked_for_stays_as_long_as_the_worker() -> None:
    loans, back = borrowed()
    loans.answered(3)
    loans.give_back_all()
    assert back == [1, 2, 3, 0]


def test_what_comes_for_a_worker_that_has_ended_is_given_back_at_once() -> None:
    loans, back = borrowed()
    loans.give_back_all()
    loans.add(4, [lambda: back.append(4)])
    assert back == [0, 1, 2, 3, 4]
