"""Answers that come from a thread are those of the call, and nothing of it is left when nobody listens any more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from batchmesh.listening import heard

if TYPE_CHECKING:
    from collections.abc import Iterator


class Call:
    """Gives its answers, then waits until it is cancelled, or ends with an error."""

    def __init__(self, *answers: int, error: Exception | None = None, ends: bool = True) -> None:
        self._answers, self._error, self._ends = answers, error, ends
        self.cancelled = threading.Event()
        self.over = threading.Event()
        self.begun_on = threading.current_thread()

    def __iter__(self) -> Iterator[int]:
        try:
            yield from self._answers
            if self._error is not None:
                raise self._error
            assert self._ends or self.cancelled.wait(10)
        finally:
            self.over.set()

    def cancel(self) -> None:
        self.cancelled.set()


def test_the_answers_come_in_order_and_from_another_thread() -> None:
    calls: list[Call] = []

    def begin() -> Call:
        calls.append(Call(1, 2, 3))
        return calls[-1]

    assert list(heard(begin)) == [1, 2, 3]
    assert calls[0].begun_on is not threading.current_thread()


def test_an_error_is_raised_behind_the_answers_before_it() -> None:
    told = heard(lambda: Call(1, error=ValueError("no more")))
    assert next(told) == 1
    with pytest.raises(ValueError, match="no more"):
        next(told)


def test_a_call_that_nobody_listens_to_any_more_is_cancelled_and_left() -> None:
    call = Call(1, 2, ends=False)
    told = heard(lambda: call)
    assert next(told) == 1
    told.close()
    assert call.cancelled.wait(10)
    assert call.over.wait(10)
