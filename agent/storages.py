"""The storages that this agent's jobs use: one channel each, shared by all jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh import calls
from batchmesh.v1 import storage_pb2_grpc

if TYPE_CHECKING:
    from grpc import aio

    from batchmesh.v1.storage_pb2_grpc import StorageServiceAsyncStub

    Storage = StorageServiceAsyncStub


class Storages:
    """Opened when first asked for, kept while the agent lives: a mesh has one, seldom more after each other."""

    def __init__(self) -> None:
        self._channels: dict[str, aio.Channel] = {}
        self._stubs: dict[str, Storage] = {}

    def at(self, address: str) -> Storage:
        """`address` is host:port or unix:path."""
        if address not in self._stubs:
            self._channels[address] = calls.open_channel(address)
            self._stubs[address] = storage_pb2_grpc.StorageServiceStub(self._channels[address])
        return self._stubs[address]

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
