"""What is joined into one response to the scheduler."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchmesh.agent.frames import Failure, Kind
from batchmesh.agent.outbox import Outbox, held_response
from batchmesh.agent.pool import Phase, PoolState
from batchmesh.agent.runner import Result
from batchmesh.agent.waiting import Attempt
from batchmesh.calls import MAX_MESSAGE


def attempt(attempt_id: int) -> Attempt:
    return Attempt(attempt_id, attempt_id + 100, 1, b"", 0, attempt_id + 1000)


def result(attempt_id: int, length: int) -> Result:
    return Result(attempt(attempt_id), 3, memoryview(b""), 0, length, 1, 1, 0, 10, 20, 30)


def failure(words: str = "no") -> Failure:
    return Failure(Kind.RUN_RAISED, words)


def told(outbox: Outbox) -> list[int]:
    """The attempts of all that is to be told."""
    found: list[int] = []
    while outbox:
        found += outbox.take().outcomes.attempt_id
    return found


def held(outbox: Outbox) -> list[int]:
    return sorted(attempt_id for attempt_id, _, _ in outbox.held())


def test_frames_lie_end_to_end_and_failures_ride_along() -> None:
    outbox = Outbox()
    outbox.set_state(PoolState(Phase.READY, 2))
    outbox.add_durable("s", 100, [result(1, 10), result(2, 5)])
    outbox.add_durable("s", 115, [result(3, 1)])
    outbox.add_failed(attempt(4), Failure(Kind.RUN_RAISED, "no", "Traceback"), 1, (7, 8, 9))
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
        outbox.add_failed(attempt(number), Failure(Kind.RUN_RAISED, "m" * 2000, "t" * 16_000))
    sizes = []
    while outbox:
        sizes.append(outbox.take().ByteSize())
    assert max(sizes) < MAX_MESSAGE


def test_words_that_are_no_text_are_told_with_what_is_not_escaped() -> None:
    outbox = Outbox()
    outbox.add_failed(attempt(1), Failure(Kind.RUN_RAISED, "no caf\udce9", "at caf\udce9"))
    (words,) = outbox.take().outcomes.failures
    assert (words.failure.message, words.failure.traceback) == ("no caf\\udce9", "at caf\\udce9")


def test_a_storage_without_room_is_told_with_the_pool() -> None:
    outbox = Outbox()
    outbox.set_state(PoolState(Phase.READY, 2), "The disk is full.")
    assert outbox.take().pool.held_up == "The disk is full."
    outbox.set_state(PoolState(Phase.READY, 2))
    assert not outbox.take().pool.held_up


def test_what_was_told_is_held_until_it_is_acknowledged() -> None:
    outbox = Outbox()
    outbox.add_durable("s", 0, [result(1, 1)])
    outbox.add_failed(attempt(2), failure())
    outbox.take()
    outbox.add_failed(attempt(3), failure())
    outbox.take()
    outbox.add_durable("s", 1, [result(4, 1)])
    assert held(outbox) == [1, 2, 3, 4]
    outbox.acknowledge(1)
    assert held(outbox) == [3, 4]
    outbox.acknowledge(1)
    assert held(outbox) == [3, 4]
    outbox.take()
    outbox.acknowledge(3)
    assert outbox.settled
    assert not held(outbox)


def test_a_pool_status_alone_is_not_counted_among_what_is_acknowledged() -> None:
    outbox = Outbox()
    outbox.set_state(PoolState(Phase.READY, 2))
    outbox.take()
    outbox.add_failed(attempt(1), failure())
    outbox.take()
    assert held(outbox) == [1]
    outbox.acknowledge(1)
    assert outbox.settled


def test_another_stream_is_told_first_what_the_last_one_has_not_acknowledged() -> None:
    outbox = Outbox()
    outbox.add_durable("a", 0, [result(1, 10), result(2, 5)])
    first = outbox.take()
    outbox.add_durable("b", 0, [result(3, 1)])
    outbox.add_failed(attempt(4), failure("one"))
    second = outbox.take()
    outbox.add_durable("b", 1, [result(5, 1)])
    outbox.add_failed(attempt(6), failure("two"))
    outbox.tell_again()
    again = outbox.take()
    assert again.outcomes.segment == "a"
    assert list(again.outcomes.offset[:2]) == list(first.outcomes.offset)
    assert [each.failure.message for each in again.outcomes.failures] == ["one", "two"]
    assert second.outcomes.failures[0] == again.outcomes.failures[0]
    assert told(outbox) == [3, 5]


def test_held_is_told_in_columns() -> None:
    outbox = Outbox()
    outbox.add_durable("s", 0, [result(7, 1)])
    response = held_response([(1, 2, 3), *outbox.held()])
    columns = (response.held.attempt_id, response.held.mini_batch, response.held.part)
    assert [list(each) for each in columns] == [[1, 7], [2, 107], [3, 1007]]


def test_a_stream_to_a_job_of_which_nothing_is_held_says_so() -> None:
    assert held_response([]).HasField("held")


@given(st.lists(st.one_of(st.sampled_from(["durable", "failed", "take", "cut"]), st.integers(1, 3)), max_size=60))
def test_whatever_is_cut_each_outcome_is_held_until_it_was_acknowledged(steps: list[str | int]) -> None:
    """`responses` are those of the present stream, as the scheduler has them."""
    outbox = Outbox()
    responses: list[list[int]] = []
    acknowledged = made = 0
    done: set[int] = set()
    for step in steps:
        if step == "durable":
            made += 1
            outbox.add_durable(f"s{made % 2}", 0, [result(made, 1)])
        elif step == "failed":
            made += 1
            outbox.add_failed(attempt(made), failure())
        elif step == "take" and outbox:
            responses.append(list(outbox.take().outcomes.attempt_id))
        elif step == "cut":
            outbox.tell_again()
            responses, acknowledged = [], 0
        elif isinstance(step, int) and acknowledged < len(responses):
            acknowledged = min(len(responses), acknowledged + step)
            outbox.acknowledge(acknowledged)
            done |= {each for response in responses[:acknowledged] for each in response}
        assert held(outbox) == [number for number in range(1, made + 1) if number not in done]
    outbox.tell_again()
    assert sorted(told(outbox)) == [number for number in range(1, made + 1) if number not in done]
