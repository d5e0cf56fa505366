"""How every service of the mesh is called: limits, keepalive, deadlines, retries.

Clients import this at each start, so it imports gRPC and nothing else that is large.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import grpc
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

if TYPE_CHECKING:
    from grpc import aio

#: No message is larger (bytes); what is longer goes in pieces.
MAX_MESSAGE = 4 * 2**20
#: A piece of a longer thing (bytes), with room for the rest of its message.
PIECE = 2**20
#: Seconds within which a unary call between services is answered.
UNARY_DEADLINE = 15.0

#: Looks for a service that starts at the same time, before it is called, and seconds between two.
_LOOKS, _LOOK = 500, 0.004

#: Both ends of a stream notice within seconds that the other is gone.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
LIMITS = [("grpc.max_send_message_length", MAX_MESSAGE), ("grpc.max_receive_message_length", MAX_MESSAGE)]
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    *KEEPALIVE,
    *LIMITS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(address: str) -> aio.Channel:
    """A channel of a service to another one. `address` is host:port or unix:path."""
    from grpc import aio

    return aio.insecure_channel(address, options=CHANNEL_OPTIONS)


async def until_listening(address: str) -> None:
    """Waits until somebody listens at a Unix socket, for a start's time at most: gRPC would look again after 100 ms at
    the soonest, and each call of a mesh that starts would wait for that. Nothing is known of host:port.
    """
    path = address.removeprefix("unix:")
    for _ in range(_LOOKS):
        if path == address or _listens(path):
            return
        await asyncio.sleep(_LOOK)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            return probe.connect_ex(path) == 0
        except OSError:  # no path of a socket, which the call itself will say
            return True


def is_transient(error: BaseException) -> bool:
    """Whether the same unary call may be made again: the transport failed, not the work."""
    return isinstance(error, grpc.RpcError) and getattr(error, "code", lambda: None)() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
    )


def retried(seconds: float) -> Any:
    """A tenacity decorator for idempotent unary calls: tries again on transport failures for up to `seconds`."""
    return retry(
        retry=retry_if_exception(is_transient),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )
