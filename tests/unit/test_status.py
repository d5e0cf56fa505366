"""What a failed call means to who made it."""

from __future__ import annotations

import grpc
import pytest
from grpc import aio

from batchmesh import errors
from batchmesh.status import from_rpc_error


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", errors.MeshUnreachable),
        # As grpc.aio tells of a connection that breaks while a stream is written to.
        (grpc.StatusCode.INTERNAL, "Internal error from Core", errors.MeshUnreachable),
        (grpc.StatusCode.INTERNAL, "Something else", errors.ServiceFailed),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", errors.DeadlineExceeded),
        (grpc.StatusCode.UNKNOWN, "Unexpected ValueError", errors.ServiceFailed),
    ],
)
def test_a_transport_that_failed_is_told_from_a_service_that_did(
    code: grpc.StatusCode, details: str, kind: type[errors.BatchmeshError]
) -> None:
    error = aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details)
    assert type(from_rpc_error(error)) is kind
