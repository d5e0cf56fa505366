"""The scheduler's end of a stream to a node, against a scripted agent: what leaves when, and which ends are breaks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from batchmesh.calls import open_channel
from batchmesh.errors import NodeDraining
from batchmesh.scheduler.streams import NodeStream
from batchmesh.serving import new_server
from batchmesh.v1 import agent_pb2, agent_pb2_grpc
from batchmesh.v1.agent_pb2 import RunMiniBatchesRequest as Request
from batchmesh.v1.agent_pb2 import RunMiniBatchesResponse as Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from grpc import aio

#: Seconds within which any story ends.
PATIENCE = 20.0
OPENING = agent_pb2.OpenPool(job_id="job-1", epoch=7, lease=15.0)
HELD = Response(held=agent_pb2.Held())


class Agent(agent_pb2_grpc.AgentServiceServicer):
    """Answers a stream as `script` says, which gets the stream's requests."""

    def __init__(self, script: Callable[[Any], AsyncIterator[Response]]) -> None:
        self.script = script
        self.requests: list[Request] = []

    async def RunMiniBatches(self, request_iterator: Any, context: Any) -> AsyncIterator[Response]:
        async for response in self.script(self._noted(request_iterator)):
            yield response

    async def _noted(self, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
        async for request in requests:
            self.requests.append(request)
            yield request


@dataclass
class Scheduler:
    """What a NodeStream told."""

    responses: list[Response] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    #: Awaited with each response.
    then: Callable[[NodeStream, Response], Awaitable[None]] | None = None

    async def on_response(self, stream: NodeStream, response: Response) -> None:
        self.responses.append(response)
        if self.then is not None:
            await self.then(stream, response)


@dataclass
class Story:
    """Both ends of a stream."""

    stream: NodeStream
    agent: Agent
    told: Scheduler
    server: aio.Server


async def nothing() -> None:
    """What a stream that may begin at once waits for."""


def story(
    folder: Path,
    script: Callable[[Any], AsyncIterator[Response]],
    play: Callable[[Story], Awaitable[None]],
    scheduler: Scheduler | None = None,
    after: Awaitable[None] | None = None,
) -> tuple[Agent, Scheduler]:
    """Plays a stream to its end."""
    agent, told = Agent(script), scheduler or Scheduler()  # type: ignore[abstract]

    async def whole() -> None:
        server, _ = new_server(lambda server: agent_pb2_grpc.add_AgentServiceServicer_to_server(agent, server), [])
        address = f"unix:{folder / 'agent'}"
        server.add_insecure_port(address)
        await server.start()
        channel = open_channel(address)
        stream = NodeStream(channel, OPENING, after or nothing(), told.on_response, told.ends.append)
        await asyncio.wait_for(play(Story(stream, agent, told, server)), PATIENCE)
        await asyncio.wait_for(stream.ended(), PATIENCE)
        await channel.close()
        await server.stop(None)

    asyncio.run(whole())
    return agent, told


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 the condition is of both ends
        await asyncio.sleep(0.005)


def received(stream: NodeStream, count: int) -> bool:
    return stream.received == count


def outcomes(*attempts: int) -> Response:
    return Response(outcomes=agent_pb2.Outcomes(attempt_id=attempts))


async def well_behaved(requests: AsyncIterator[Request]) -> AsyncIterator[Response]:
    """Tells each attempt at once, and ends when it is finished and all is acknowledged."""
    yield HELD
    told = acknowledged = 0
    finishing = False
    async for request in requests:
        acknowledged = max(acknowledged, request.acknowledged)
        finishing = finishing or request.finish
        if request.dispatch.attempt_id:
            told += 1
            yield outcomes(*request.dispatch.attempt_id)
        if request.abort_all or (finishing and told == acknowledged):
            return


async def at_once(stream: NodeStream, response: Response) -> None:
    stream.acknowledge(stream.received)


def parcel(attempt: int, size: int = 1, part: int = 0) -> tuple[int, int, int, bytes, int, int]:
    return attempt, attempt + 100, 1, b"p" * size, 0, part


def test_a_finished_stream_goes_on_acknowledging_until_the_agent_ends_it(tmp_path: Path) -> None:
    async def play(on: Story) -> None:
        on.stream.send([parcel(1), parcel(2)])
        on.stream.finish()
        await until(lambda: on.stream.received)
        on.stream.acknowledge(1)

    agent, told = story(tmp_path, well_behaved, play)
    assert told.ends == [False]
    assert agent.requests[0].open == OPENING
    assert [list(each.dispatch.attempt_id) for each in agent.requests[1:]] == [[1, 2], []]
    assert [each.finish for each in agent.requests[1:]] == [True, False]
    assert agent.requests[-1].acknowledged == 1


def test_an_acknowledgement_leaves_by_itself_when_nothing_else_does(tmp_path: Path) -> None:
    async def play(on: Story) -> None:
        for number in range(1, 4):
            on.stream.send([parcel(number)])
            await until(partial(received, on.stream, number))
        await until(lambda: on.agent.requests[-1].acknowledged == 3)
        on.stream.finish()

    _, told = story(tmp_path, well_behaved, play, Scheduler(then=at_once))
    assert told.ends == [False]


def test_an_aborted_stream_ends_in_order_with_attempts_open(tmp_path: Path) -> None:
    async def silent(requests: AsyncIterator[Request]) -> AsyncIterator[Response]:
        yield HELD
        async for request in requests:
            if request.abort_all:
                return

    async def play(on: Story) -> None:
        on.stream.send([parcel(1)])
        await until(lambda: on.told.responses)
        on.stream.abort_all()

    _, told = story(tmp_path, silent, play)
    assert told.ends == [False]


def test_a_stream_that_the_agent_ends_unasked_is_broken(tmp_path: Path) -> None:
    async def leaves(requests: AsyncIterator[Request]) -> AsyncIterator[Response]:
        yield HELD

    async def play(on: Story) -> None:
        await on.stream.ended()

    assert story(tmp_path, leaves, play)[1].ends == [True]


def test_a_stream_that_the_agent_refuses_is_not_broken(tmp_path: Path) -> None:
    async def refuses(requests: AsyncIterator[Request]) -> AsyncIterator[Response]:
        async for _ in requests:
            raise NodeDraining("Node a is going.")
        yield HELD

    async def play(on: Story) -> None:
        await on.stream.ended()

    assert story(tmp_path, refuses, play)[1].ends == [False]


def test_a_stream_whose_transport_fails_is_broken_though_it_was_to_finish(tmp_path: Path) -> None:
    async def busy(requests: AsyncIterator[Request]) -> AsyncIterator[Response]:
        yield HELD
        async for _ in requests:
            pass

    async def play(on: Story) -> None:
        on.stream.send([parcel(1)])
        on.stream.finish()
        await until(lambda: on.told.responses)
        await on.server.stop(None)

    assert story(tmp_path, busy, play)[1].ends == [True]


def test_a_stream_that_is_cut_ends_here_and_is_neither_finished_nor_aborted_there(tmp_path: Path) -> None:
    async def busy(requests: AsyncIterator[Request]) -> AsyncIterator[Response]:
        yield HELD
        async for _ in requests:
            pass

    async def play(on: Story) -> None:
        on.stream.send([parcel(1)])
        await until(lambda: on.told.responses)
        on.stream.cut()

    agent, told = story(tmp_path, busy, play)
    assert told.ends == [True]
    assert not any(each.finish or each.abort_all for each in agent.requests)


def test_a_mistake_of_the_scheduler_breaks_the_stream_and_nothing_else(tmp_path: Path) -> None:
    async def mistaken(stream: NodeStream, response: Response) -> None:
        raise ZeroDivisionError

    async def play(on: Story) -> None:
        await on.stream.ended()

    assert story(tmp_path, well_behaved, play, Scheduler(then=mistaken))[1].ends == [True]


def test_what_cannot_be_sent_breaks_the_stream(tmp_path: Path) -> None:
    async def play(on: Story) -> None:
        on.stream.send([(-1, 0, 1, b"", 0, 0)])  # no attempt has such a number
        await on.stream.ended()

    assert story(tmp_path, well_behaved, play)[1].ends == [True]


def test_an_attempt_that_is_aborted_before_it_left_never_leaves(tmp_path: Path) -> None:
    released = asyncio.Event()

    async def play(on: Story) -> None:
        on.stream.send([parcel(1), parcel(2), parcel(3)])
        on.stream.abort([2, 9])
        released.set()
        await until(lambda: on.stream.received)
        on.stream.finish()

    async def after() -> None:
        await released.wait()

    agent, _ = story(tmp_path, well_behaved, play, Scheduler(then=at_once), after())
    sent = [attempt for each in agent.requests for attempt in each.dispatch.attempt_id]
    assert (sent, [list(each.abort) for each in agent.requests if each.abort]) == ([1, 3], [[9]])


def test_a_stream_is_not_opened_before_the_node_is_on_record(tmp_path: Path) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def play(on: Story) -> None:
        on.stream.send([parcel(1)])
        await asyncio.sleep(0)
        on.stream.cut()

    agent, told = story(tmp_path, well_behaved, play, after=never())
    assert (agent.requests, told.ends) == ([], [True])


def test_messages_stay_below_the_limit_and_parts_are_named_only_where_there_are_some(tmp_path: Path) -> None:
    async def play(on: Story) -> None:
        on.stream.send([parcel(number, size=900_000) for number in range(1, 8)])
        on.stream.send([parcel(8, part=3 << 40 | 5), parcel(9)])
        await until(lambda: len([a for each in on.told.responses for a in each.outcomes.attempt_id]) == 9)
        on.stream.finish()

    agent, told = story(tmp_path, well_behaved, play, Scheduler(then=at_once))
    sent = [each.dispatch for each in agent.requests if each.dispatch.attempt_id]
    assert [attempt for each in sent for attempt in each.attempt_id] == list(range(1, 10))
    assert max(each.ByteSize() for each in sent) < 2.1 * 2**20
    assert [list(each.part) for each in sent if each.part][-1][-2:] == [3 << 40 | 5, 0]
    assert all(8 in each.attempt_id for each in sent if each.part)
    assert told.ends == [False]
