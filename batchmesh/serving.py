"""How every service of the mesh is served: limits, keepalive, errors as statuses, health and reflection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from batchmesh.calls import KEEPALIVE, LIMITS
from batchmesh.errors import BatchmeshError, Refused, ServiceFailed
from batchmesh.log import get_logger
from batchmesh.status import to_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

SERVER_OPTIONS: list[tuple[str, Any]] = [
    *KEEPALIVE,
    *LIMITS,
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.so_reuseport", 0),
]


class _ErrorsToStatuses(aio.ServerInterceptor):
    """Turns our errors into rich statuses, and anything else into INTERNAL with one sentence and a logged traceback."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith("/batchmesh."):
            return handler
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        behaviour = getattr(handler, kind)
        wrapped = _guarded_stream(behaviour) if handler.response_streaming else _guarded_unary(behaviour)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        made: grpc.RpcMethodHandler[Any, Any] = make(wrapped, handler.request_deserializer, handler.response_serializer)
        return made


def _guarded_unary(behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(request, context)
        except Exception as error:  # noqa: BLE001 the boundary of the service: everything becomes a status
            await _abort(context, error)

    return guarded


def _guarded_stream(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        try:
            async for response in behaviour(request, context):
                yield response
        except Exception as error:  # noqa: BLE001 as above
            await _abort(context, error)

    return guarded


async def _abort(context: aio.ServicerContext[Any, Any], error: Exception) -> None:
    if isinstance(error, aio.AbortError):
        raise error
    if not isinstance(error, BatchmeshError):
        get_logger().exception("call_failed", exc_info=error)
        error = ServiceFailed(f"The service failed on this call with {type(error).__name__}: {error}")
    elif not isinstance(error, Refused):
        get_logger().warning("call_failed", error=str(error), kind=type(error).__name__)
    status = to_status(error)
    context.set_trailing_metadata(tuple(status.trailing_metadata or ()))
    await context.abort(status.code, status.details)


def new_server(
    register: Callable[[aio.Server], None], service_names: Sequence[str]
) -> tuple[aio.Server, health.aio.HealthServicer]:
    """A server with our limits, error statuses, grpc.health.v1 and reflection.

    Call `.set("", SERVING)` on the returned health servicer once the service can work; until then it says NOT_SERVING.
    """
    server = aio.server(options=SERVER_OPTIONS, interceptors=[_ErrorsToStatuses()])
    register(server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = [*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server)
    return server, servicer


async def set_serving(servicer: health.aio.HealthServicer, service_names: Sequence[str], serving: bool) -> None:
    """Says of the server as a whole and of each service whether it takes calls."""
    state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for name in ("", *service_names):
        await servicer.set(name, state)
