"""`python -m batchmesh.health HOST:PORT`: exit status 0 when the service there takes calls, else 1 (grpc.health.v1)."""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from batchmesh.address import check_address
from batchmesh.errors import BatchmeshError

#: Seconds within which a healthy service answers.
_DEADLINE = 5.0


def is_serving(address: str) -> bool:
    """Asks the service as a whole. No answer in time is no. Errors: AddressRefused."""
    with grpc.insecure_channel(check_address(address)) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_DEADLINE)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> int:
    """Returns the exit status; 2 for a wrong command line."""
    if len(sys.argv) != 2:
        print("usage: python -m batchmesh.health HOST:PORT", file=sys.stderr)  # noqa: T201 the sentence is for the person
        return 2
    try:
        return 0 if is_serving(sys.argv[1]) else 1
    except BatchmeshError as error:
        print(f"batchmesh: {error}", file=sys.stderr)  # noqa: T201 as above
        return 2


if __name__ == "__main__":
    sys.exit(main())
