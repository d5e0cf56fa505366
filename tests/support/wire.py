"""A wire in front of one service: it does to calls what networks do, and tells at which step of the protocol we are.

    caller ──TCP──▶ Cable ──▶ Wire ──▶ service
                 (bytes: cut, (messages: held, lost, late,
                  frozen)      answered wrongly, hooks)

    with Wires() as wires:
        wire = wires.to(service_address)
        wire.on("RunMiniBatches", Direction.REQUESTS, scheduler.kill, where=lambda m: m.HasField("dispatch"), nth=3)
        …  # give wire.address to whoever calls the service

All wires of a test share one thread with one loop. Every method may be called from any other thread and returns once it
has taken effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import grpc
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from grpc_health.v1 import health_pb2

from batchmesh.calls import CHANNEL_OPTIONS, KEEPALIVE
from batchmesh.status import is_broken_write
from batchmesh.v1 import agent_pb2, scheduler_pb2, storage_pb2

from .cable import BOTH, Cable, Direction

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from google.protobuf.message import Message

    Context = aio.ServicerContext[bytes, bytes]
    Call = aio.StreamStreamCall[bytes, bytes]

__all__ = ["BOTH", "Direction", "Wire", "Wires"]

_Value = TypeVar("_Value")

#: Seconds within which a wire does what it is told; callbacks of a test may take that long, too.
_PATIENCE = 30.0
#: Seconds after which an end of requests is known to be a half-close and no cancelled call.
_SETTLE = 0.02
_UNLIMITED: list[tuple[str, Any]] = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_SERVER = [*KEEPALIVE, *_UNLIMITED, ("grpc.http2.min_ping_interval_without_data_ms", 1_000)]
_CHANNEL = [*CHANNEL_OPTIONS, *_UNLIMITED]
#: Metadata that the transport makes by itself.
_OWN_METADATA = ("grpc-", "user-agent", "content-type", "te", ":")


def _messages() -> Iterator[tuple[tuple[str, Direction], type[Message]]]:
    """Of each method of ours, by its path and direction, the class of its messages."""
    for file in (agent_pb2, scheduler_pb2, storage_pb2, health_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                yield (path, Direction.REQUESTS), GetMessageClass(method.input_type)
                yield (path, Direction.RESPONSES), GetMessageClass(method.output_type)


_MESSAGES = dict(_messages())


class _Broken(Exception):
    """This call is to end as if the connection had broken; the message says why."""


@dataclass
class _Hook:
    method: str
    direction: Direction
    callback: Callable[[], object]
    nth: int
    where: Callable[[Any], bool]
    after: bool
    at_end: bool
    fired: threading.Event = field(default_factory=threading.Event)
    met: int = 0

    def meets(self, path: str, direction: Direction, message: bytes | None) -> bool:
        """Counts; `message` is None at the end of a call's direction."""
        if direction is not self.direction or path.rpartition("/")[2] != self.method:
            return False
        if (message is None) is not self.at_end or self.fired.is_set():
            return False
        if message is not None and not self.where(_MESSAGES[path, direction].FromString(message)):
            return False
        self.met += 1
        return self.met == self.nth


class Wires:
    """The thread and the loop of a test's wires; use as a context manager. A callback that raised raises at its end."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
        self._thread.start()
        self._folder = tempfile.mkdtemp(prefix="wires-")
        self._wires: list[Wire] = []
        self.errors: list[BaseException] = []
        return self

    def to(self, upstream: str) -> Wire:
        """A new wire in front of what listens at `upstream` (host:port or unix:path), now or later."""
        wire = Wire(self, upstream, f"{self._folder}/{len(self._wires)}")
        self._wires.append(wire)
        return wire

    def do(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        """Runs it on the wires' loop and waits for what comes of it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for wire in self._wires:
            self.do(wire.close())
        self.do(_gather_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if kind is None and self.errors:
            raise self.errors[0]


async def _gather_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


class Wire:
    """`address` is where to call instead of the service. Without a fault it passes everything on as it is: messages,
    metadata, deadlines, half-closes, cancellations, statuses and their details."""

    def __init__(self, wires: Wires, upstream: str, path: str) -> None:
        """`path` is for a socket of its own."""
        self._wires = wires
        self._path = path
        self._hooks: list[_Hook] = []
        self._doomed: Counter[tuple[Direction, str]] = Counter()
        self._delays = dict.fromkeys(BOTH, 0.0)
        self._held: dict[tuple[Direction, str], asyncio.Future[bool]] = {}
        #: Messages that have arrived here, by direction and method ("" counts all).
        self.seen: Counter[tuple[Direction, str]] = Counter()
        self.address = wires.do(self._lay(upstream))

    # Faults of the connection.

    def cut(self) -> None:
        """Resets all connections. New ones are taken at once."""
        self._soon(self._cable.cut)

    def unplug(self) -> None:
        """Resets all connections and each new one, until `plug`."""
        self._soon(self._cable.unplug)

    def plug(self) -> None:
        self._soon(self._cable.plug)

    def freeze(self, *directions: Direction) -> None:
        """No byte passes this way until `thaw`: keepalive notices it after some seconds, nothing else does."""
        for direction in directions or BOTH:
            self._soon(self._cable.freeze, direction)

    def thaw(self) -> None:
        """Frozen bytes go on, however late."""
        self._soon(self._cable.thaw)

    # Faults of calls and messages.

    def hold(self, *directions: Direction, method: str = "") -> None:
        """No message (of `method`) passes this way until `release`, while pings are answered: the call seems alive."""
        self._wires.do(self._hold(directions or BOTH, method))

    def release(self, *, deliver: bool = True) -> None:
        """Held messages go on, however late; or they are lost, and the calls that lost one break."""
        self._wires.do(self._release(deliver))

    def lose(self, method: str = "", count: int = 1) -> None:
        """The next requests (of `method`) do not arrive, and their calls are answered UNAVAILABLE."""
        self._wires.do(self._doom(Direction.REQUESTS, method, count))

    def fail(self, method: str = "", count: int = 1) -> None:
        """The next responses (of `method`) do not arrive: what was asked for was done, and answered UNAVAILABLE."""
        self._wires.do(self._doom(Direction.RESPONSES, method, count))

    def delay(self, seconds: float, *directions: Direction) -> None:
        """Each message takes that much longer from now on; 0 ends it. The order stays."""
        for direction in directions or BOTH:
            self._soon(self._delays.__setitem__, direction, seconds)

    def heal(self) -> Counter[Direction]:
        """Ends all faults, but hooks stay; says how many requests to lose and responses to fail never came."""
        return self._wires.do(self._heal())

    def on(
        self,
        method: str,
        direction: Direction,
        callback: Callable[[], object],
        *,
        nth: int = 1,
        where: Callable[[Any], bool] = lambda _: True,
        after: bool = False,
        at_end: bool = False,
    ) -> threading.Event:
        """Calls back, on a thread, when the `nth` message of `method` for which `where(message)` holds passes this way.

        The message waits until the callback has returned; with `after` it has been handed on before. `at_end`: at the
        nth call's half-close or status instead. The event returned is set when the callback has returned. A process
        that ends with the thread that started it is not to be started in a callback.
        """
        hook = _Hook(method, direction, callback, nth, where, after, at_end)
        self._soon(self._hooks.append, hook)
        return hook.fired

    async def close(self) -> None:
        await self._release(deliver=False)
        await self._cable.close()
        await self._server.stop(None)
        await self._channel.close()

    # On the loop.

    def _soon(self, function: Callable[..., object], *arguments: object) -> None:
        async def done() -> None:
            function(*arguments)

        self._wires.do(done())

    async def _lay(self, upstream: str) -> str:
        self._channel = aio.insecure_channel(upstream, options=_CHANNEL)
        self._server = aio.server(options=_SERVER)
        self._server.add_generic_rpc_handlers((_Everything(self),))
        self._server.add_insecure_port(f"unix:{self._path}")
        await self._server.start()
        self._cable = Cable(self._path)
        return await self._cable.lay()

    async def _hold(self, directions: Iterable[Direction], method: str) -> None:
        for direction in directions:
            self._held.setdefault((direction, method), asyncio.get_running_loop().create_future())

    async def _release(self, deliver: bool) -> None:
        held, self._held = self._held, {}
        for future in held.values():
            future.set_result(deliver)

    async def _doom(self, direction: Direction, method: str, count: int) -> None:
        self._doomed[direction, method] += count

    async def _heal(self) -> Counter[Direction]:
        left: Counter[Direction] = Counter()
        for (direction, _), count in self._doomed.items():
            left[direction] += count
        self._doomed.clear()
        self._delays = dict.fromkeys(BOTH, 0.0)
        self._cable.plug()
        self._cable.thaw()
        await self._release(deliver=True)
        return left

    async def serve(self, path: str, context: Context) -> None:
        """One call, whatever its arity: on the network all are streams."""
        call = self._called(path, context)
        requests = asyncio.create_task(self._requests(path, context, call))
        responses = asyncio.create_task(self._responses(path, context, call))
        responses.add_done_callback(lambda _: requests.cancel())
        try:
            await asyncio.wait({requests, responses}, return_when=asyncio.FIRST_EXCEPTION)
            for task in (requests, responses):
                if task.done() and not task.cancelled():
                    task.result()
        except _Broken as why:
            call.cancel()
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"{why}")
        except aio.AioRpcError as error:
            context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
            code = grpc.StatusCode.UNAVAILABLE if is_broken_write(error) else error.code()
            await context.abort(code, error.details() or "")
        finally:
            call.cancel()
            for task in (requests, responses):
                task.cancel()
            await asyncio.gather(requests, responses, return_exceptions=True)

    def _called(self, path: str, context: Context) -> Call:
        metadata = [(key, value) for key, value in context.invocation_metadata() or () if not _is_own(key)]
        method: Any = self._channel.stream_stream(path)
        # Without a deadline there is none, or one that is ages away.
        remaining = cast("float | None", context.time_remaining())
        timeout = remaining if remaining is not None and remaining < 1e8 else None
        return cast("Call", method(metadata=aio.Metadata(*metadata), timeout=timeout))

    async def _requests(self, path: str, context: Context, call: Call) -> None:
        """Ends quietly with the call: its responses say how that ended."""
        with contextlib.suppress(asyncio.InvalidStateError, aio.UsageError, aio.AioRpcError):
            while (message := cast("Any", await context.read())) is not aio.EOF:
                await self._pass(path, Direction.REQUESTS, message, call.write)
            await asyncio.sleep(_SETTLE)
            await self._pass(path, Direction.REQUESTS, None, call.done_writing)

    async def _responses(self, path: str, context: Context, call: Call) -> None:
        """Raises AioRpcError when the call ended as anything else than OK."""
        error: aio.AioRpcError | None = None
        try:
            message: Any = await call.read()
            if first := await call.initial_metadata():
                await context.send_initial_metadata(tuple(first))
            while message is not aio.EOF:
                await self._pass(path, Direction.RESPONSES, message, context.write)
                message = await call.read()
            context.set_trailing_metadata(tuple(await call.trailing_metadata() or ()))
        except aio.AioRpcError as ended:
            error = ended
        await self._pass(path, Direction.RESPONSES, None, None)
        if error is not None:
            raise error

    async def _pass(
        self, path: str, direction: Direction, message: bytes | None, forward: Callable[..., Any] | None
    ) -> None:
        """One message, or the end of its direction, on its way through all faults and hooks."""
        name = path.rpartition("/")[2]
        self.seen.update(((direction, name), (direction, "")) if message is not None else ())
        met = [hook for hook in self._hooks if hook.meets(path, direction, message)]
        await self._call_back(hook for hook in met if not hook.after)
        for key in ((direction, name), (direction, "")):
            if message is not None and self._doomed[key]:
                self._doomed[key] -= 1
                raise _Broken(f"the wire lost one of the {direction} of {name}")
        await self._wait_while_held(direction, name)
        try:
            if forward is not None:
                await (forward() if message is None else forward(message))
        finally:  # what was handed on may end the call, and this with it, before it has returned
            await self._call_back(hook for hook in met if hook.after)

    async def _wait_while_held(self, direction: Direction, name: str) -> None:
        if self._delays[direction]:
            await asyncio.sleep(self._delays[direction])
        for key in ((direction, name), (direction, "")):
            held = self._held.get(key)
            if held is not None and not await asyncio.shield(held):
                raise _Broken(f"the wire held {direction} of {name} and let go of them")

    async def _call_back(self, hooks: Iterable[_Hook]) -> None:
        """Shielded: a call that is cancelled would take back what no thread has begun yet."""
        for hook in hooks:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._fire, hook))

    def _fire(self, hook: _Hook) -> None:
        """On a thread, which goes on to its end though the call may be cancelled: its caller may be who was killed."""
        try:
            hook.callback()
        except Exception as error:  # noqa: BLE001 whatever a test's callback raises is the test's to see
            self._wires.errors.append(error)
        finally:
            hook.fired.set()


def _is_own(key: str) -> bool:
    return key.startswith(_OWN_METADATA)


class _Everything(grpc.GenericRpcHandler):
    """Takes every method as a stream of bytes in both directions."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def serve(_: object, context: Context) -> None:
            await self._wire.serve(details.method, context)

        return grpc.stream_stream_rpc_method_handler(cast("Any", serve))
