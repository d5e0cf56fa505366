"""The bound on results that storage has not acknowledged."""

from __future__ import annotations

from batchmesh.agent.budget import Budget


def test_what_is_on_its_way_takes_room_like_what_is_here() -> None:
    budget = Budget(100)
    budget.add(40)
    assert budget.fits(60, coming=0)
    assert budget.fits(30, coming=30)
    assert not budget.fits(31, coming=30)


def test_alone_anything_fits_so_that_nothing_waits_forever() -> None:
    budget = Budget(100)
    assert budget.fits(1000, coming=0)
    assert not budget.fits(1000, coming=1)


def test_those_who_wait_are_told_of_room_once_there_is_some() -> None:
    told: list[int] = []
    budget = Budget(100)

    def tell() -> None:
        told.append(budget.used)

    budget.subscribe(tell)
    budget.add(150)
    budget.release(10)
    budget.release(90)
    budget.unsubscribe(tell)
    budget.release(50)
    assert told == [50]
