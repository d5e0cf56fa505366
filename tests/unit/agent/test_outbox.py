"""What is joined into one response to the scheduler."""

from __future__ import annotations

from batchmesh.agent.frames import Failure, Kind
from batchmesh.agent.outbox import Outbox
from batchmesh.agent.pool import Phase, PoolState
from batchmesh.agent.runner import Result
from batchmesh.agent.waiting import Attempt
from batchmesh.calls import MAX_MESSAGE


def result(attempt_id: int, length: int) -> Result:
    return Result(Attempt(attempt_id, 0, 1, b"", 0), 3, memoryview(b""), 0, length, 1, 1, 0, 10, 20, 30)


def test_frames_lie_end_to_end_and_failures_ride_along() -> None:
    outbox = Outbox()
    outbox.set_state(PoolState(Phase.READY, 2))
    outbox.add_durable("s", 100, [result(1, 10), result(2, 5)])
    outbox.add_durable("s", 115, [result(3, 1)])
    outbox.add_failed(4, Failure(Kind.RUN_RAISED, "no", "Traceback"), 1, (7, 8, 9))
    response = outbox.take()
    assert response.pool.workers == 2
    assert list(response.outcomes.attempt_id) == [1, 2, 3, 4]
    assert list(response.outcomes.offset) == [100, 110, 115, 0]
    assert list(response.outcomes.length) == [10, 5, 1, 0]
    assert [each.attempt_id for each in response.outcomes.failures] == [4]
    assert list(response.outcomes.run_us) == [20, 20, 20, 8]
    assert not outbox


def test_each_response_names_one_segment() -> None:
    outbox = Outbox()
    outbox.add_durable("a", 0, [result(1, 1)])
    outbox.add_durable("b", 0, [result(2, 1)])
    assert [outbox.take().outcomes.segment for _ in range(2)] == ["a", "b"]


def test_no_response_is_larger_than_a_message_may_be() -> None:
    outbox = Outbox()
    for number in range(1000):
        outbox.add_failed(number, Failure(Kind.RUN_RAISED, "m" * 2000, "t" * 16_000))
    sizes = []
    while outbox:
        sizes.append(outbox.take().ByteSize())
    assert max(sizes) < MAX_MESSAGE


def test_words_that_are_no_text_are_told_with_what_is_not_escaped() -> None:
    outbox = Outbox()
    outbox.add_failed(1, Failure(Kind.RUN_RAISED, "no caf\udce9", "at caf\udce9"))
    (told,) = outbox.take().outcomes.failures
    assert (told.failure.message, told.failure.traceback) == ("no caf\\udce9", "at caf\\udce9")
