"""The wire that other tests trust: faithful without a fault, and each fault as it says."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from grpc import aio

from batchmesh.calls import CHANNEL_OPTIONS
from batchmesh.errors import NoLog
from batchmesh.status import from_rpc_error
from batchmesh.v1 import storage_pb2, storage_pb2_grpc
from tests.support.mesh import Service, start_service
from tests.support.story import wait_for
from tests.support.wire import Direction, Wire, Wires

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Stub = storage_pb2_grpc.StorageServiceStub

#: A method that no proto knows: takes requests until their end and answers each; tells how each call ended.
ECHO = "/test.Echo/Echo"


@pytest.fixture
def wires() -> Iterator[Wires]:
    with Wires() as wires:
        yield wires


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Service]:
    service = start_service(
        "storage", tmp_path / "storage.log", "--listen", "127.0.0.1:0", "--root", str(tmp_path / "root")
    )
    yield service
    service.end()


@pytest.fixture
def wire(wires: Wires, storage: Service) -> Wire:
    return wires.to(storage.address)


@pytest.fixture
def stub(wire: Wire) -> Iterator[Stub]:
    with grpc.insecure_channel(wire.address, options=CHANNEL_OPTIONS) as channel:
        yield storage_pb2_grpc.StorageServiceStub(channel)


class Echo(grpc.GenericRpcHandler):
    """Answers each request with itself; `ends` says of each call whether it was half-closed or cancelled."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.metadata: dict[str, Any] = {}
        self.deadline: float | None = None

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.stream_stream_rpc_method_handler(cast("Any", self._echo))

    async def _echo(self, _: object, context: aio.ServicerContext[bytes, bytes]) -> None:
        self.metadata = dict(context.invocation_metadata() or ())
        self.deadline = context.time_remaining()
        end = "cancelled"
        try:
            while (message := cast("Any", await context.read())) is not aio.EOF:
                await context.write(message)
            await asyncio.sleep(0.05)  # a cancelled call ends its requests first, then this handler
            end = "half-closed"
        finally:
            self.ends.append(end)
        context.set_trailing_metadata((("left", "over"),))


@pytest.fixture
def echo(wires: Wires) -> Iterator[tuple[Echo, Wire]]:
    handler = Echo()
    server, address = wires.do(_served(handler))
    yield handler, wires.to(address)
    wires.do(server.stop(None))


async def _served(handler: Echo) -> tuple[aio.Server, str]:
    server = aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


class Talk:
    """One open call of ECHO through a wire."""

    def __init__(self, wire: Wire) -> None:
        self._more = threading.Condition()
        self._requests: list[bytes | None] = []
        self._channel = grpc.insecure_channel(wire.address, options=CHANNEL_OPTIONS)
        method: Any = self._channel.stream_stream(ECHO)
        self.call = method(self._send(), metadata=(("who", "me"), ("raw-bin", b"\0\1")), timeout=50)

    def say(self, message: bytes | None) -> None:
        """None half-closes."""
        with self._more:
            self._requests.append(message)
            self._more.notify()

    def _send(self) -> Iterator[bytes]:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._requests)
                message = self._requests.pop(0)
            if message is None:
                return
            yield message

    def close(self) -> None:
        self.say(None)
        self._channel.close()


@pytest.fixture
def talk(echo: tuple[Echo, Wire]) -> Iterator[Talk]:
    talk = Talk(echo[1])
    yield talk
    talk.close()


def append(stub: Stub, data: bytes = b"line\n", offset: int = 0) -> int:
    request = storage_pb2.AppendLogRequest(job_id="j", name="a.txt", offset=offset, data=data)
    size: int = stub.AppendLog(request, timeout=10).size
    return size


def test_a_wire_without_a_fault_passes_results_and_rich_errors(stub: Stub) -> None:
    assert append(stub, b"x" * 3_000_000) == 3_000_000
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.ReadLog(storage_pb2.ReadLogRequest(job_id="j", name="none.txt"), timeout=10))
    assert isinstance(from_rpc_error(refused.value), NoLog)


def test_metadata_deadline_and_half_close_arrive(echo: tuple[Echo, Wire], talk: Talk) -> None:
    talk.say(b"one")
    assert next(talk.call) == b"one"
    assert echo[0].metadata["who"] == "me"
    assert echo[0].metadata["raw-bin"] == b"\0\1"
    assert echo[0].deadline is not None
    assert 0 < echo[0].deadline <= 50.2  # on each of its two ways gRPC rounds it up to tenths
    talk.say(None)
    assert list(talk.call) == []
    assert dict(talk.call.trailing_metadata())["left"] == "over"
    assert echo[0].ends == ["half-closed"]


def test_a_cancelled_call_is_cancelled_behind_the_wire(echo: tuple[Echo, Wire], talk: Talk) -> None:
    talk.say(b"one")
    next(talk.call)
    talk.call.cancel()
    wait_for(lambda: echo[0].ends, "the end of the call")
    assert echo[0].ends == ["cancelled"]


@pytest.mark.parametrize("fault", [Wire.cut, Wire.unplug])
def test_a_cut_breaks_the_call_on_both_sides(echo: tuple[Echo, Wire], talk: Talk, fault: Any) -> None:
    talk.say(b"one")
    next(talk.call)
    fault(echo[1])
    with pytest.raises(grpc.RpcError) as broken:
        next(talk.call)
    assert broken.value.code() is grpc.StatusCode.UNAVAILABLE
    wait_for(lambda: echo[0].ends, "the end of the call")
    assert echo[0].ends == ["cancelled"]


def test_an_unplugged_wire_takes_calls_again_once_it_is_plugged(wire: Wire, stub: Stub) -> None:
    wire.unplug()
    with pytest.raises(grpc.RpcError):
        append(stub)
    wire.plug()
    assert wait_for(lambda: _answered(stub), "an answer") == 5


def _answered(stub: Stub) -> int:
    try:
        return append(stub)
    except grpc.RpcError:
        return 0


def test_a_lost_request_was_not_executed_and_a_failed_one_was(wire: Wire, stub: Stub) -> None:
    for fault, kept in ((wire.lose, 0), (wire.fail, 5)):
        fault("AppendLog")
        with pytest.raises(grpc.RpcError) as broken:
            append(stub)
        assert broken.value.code() is grpc.StatusCode.UNAVAILABLE
        logs = stub.ListLogs(storage_pb2.ListLogsRequest(job_id="j"), timeout=10).logs
        assert sum(log.size for log in logs) == kept


@pytest.mark.parametrize("direction", list(Direction))
def test_held_messages_are_late_or_lost_with_their_call(
    echo: tuple[Echo, Wire], talk: Talk, direction: Direction
) -> None:
    wire = echo[1]
    wire.hold(direction)
    talk.say(b"late")
    wait_for(lambda: wire.seen[direction, ""], "the message to reach the wire")
    wire.release()
    assert next(talk.call) == b"late"
    wire.hold(direction)
    talk.say(b"lost")
    wait_for(lambda: wire.seen[direction, ""] == 2, "the message to reach the wire")
    wire.release(deliver=False)
    with pytest.raises(grpc.RpcError):
        next(talk.call)


@pytest.mark.parametrize("direction", list(Direction))
def test_frozen_bytes_go_on_when_they_are_thawed(echo: tuple[Echo, Wire], talk: Talk, direction: Direction) -> None:
    talk.say(b"one")
    next(talk.call)
    echo[1].freeze(direction)
    talk.say(b"two")
    echo[1].thaw()
    assert next(talk.call) == b"two"


def test_a_delay_holds_back_each_message(wire: Wire, stub: Stub) -> None:
    wire.delay(0.2, Direction.RESPONSES)
    begun = time.monotonic()
    append(stub)
    assert time.monotonic() - begun >= 0.2


def test_a_hook_stops_a_service_at_an_exact_step(wire: Wire, stub: Stub, storage: Service) -> None:
    """Killed before the third request has arrived, storage has two."""
    fired = wire.on("AppendLog", Direction.REQUESTS, storage.kill, nth=3)
    assert [append(stub, offset=0), append(stub, offset=5)] == [5, 10]
    with pytest.raises(grpc.RpcError):
        append(stub, offset=10)
    assert fired.wait(30)


def test_a_hook_comes_before_its_message_unless_it_is_to_come_after(wire: Wire, stub: Stub, tmp_path: Path) -> None:
    root, sizes = tmp_path / "root", []
    wire.on("AppendLog", Direction.REQUESTS, lambda: sizes.append(_kept(root)))
    passed = wire.on(
        "AppendLog", Direction.REQUESTS, lambda: wait_for(lambda: _kept(root) == 10, "the bytes"), nth=2, after=True
    )
    append(stub)
    append(stub, offset=5)
    assert sizes == [0]
    assert passed.wait(10)


def _kept(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("a.txt"))


def test_a_hook_meets_what_its_messages_say(wire: Wire, stub: Stub) -> None:
    met: list[str] = []
    wire.on("AppendLog", Direction.REQUESTS, lambda: met.append("second"), where=lambda message: message.offset == 5)
    append(stub)
    assert met == []
    append(stub, offset=5)
    assert met == ["second"]
