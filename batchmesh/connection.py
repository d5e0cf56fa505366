"""A client's connection to one mesh: where its services are, and calls that are made again when nobody answered.

It is the one room of the client that holds channels; the jobs, the catalog and the compute targets all call through it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import grpc

from batchmesh.address import check_address
from batchmesh.calls import CHANNEL_OPTIONS, PIECE, UNARY_DEADLINE, is_transient, retried
from batchmesh.listening import heard
from batchmesh.status import from_rpc_error
from batchmesh.v1 import scheduler_pb2, scheduler_pb2_grpc, storage_pb2, storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from batchmesh.archive import Archive
    from batchmesh.errors import BatchmeshError
    from batchmesh.home import Membership

    _Judge = Callable[[BatchmeshError], Any]

#: Seconds for which a call is made again while nobody answers: of a mesh that has never answered, and of one that has,
#: or is known to stand, whose scheduler is probably being started again.
FIRST_PATIENCE, PATIENCE = 5.0, 30.0
#: Seconds for the bytes of one artifact, output or log.
_TRANSFER_SECONDS = 3600.0


class Connection:
    """To the scheduler at `address`, or to the mesh of a home by the `membership` that the caller has begun."""

    def __init__(self, address: str | None, membership: Membership | None) -> None:
        self._address = check_address(address) if address is not None else None
        self._membership = membership
        self._channels: list[grpc.Channel] = []
        self._patience = FIRST_PATIENCE if membership is None else PATIENCE

    def close(self) -> None:
        """Leaves the mesh; calls that are open end."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        if self._membership is not None:
            self._membership.leave()

    @cached_property
    def address(self) -> str:
        """Where the scheduler is called: host:port or unix:path. Waits for the home's mesh to be ready."""
        if self._address is not None:
            return self._address
        assert self._membership is not None, "there is an address or a membership"
        return self._membership.scheduler()

    @property
    def name(self) -> str:
        """The mesh, in a sentence."""
        return f"The mesh at {self.address}"

    @cached_property
    def scheduler(self) -> scheduler_pb2_grpc.SchedulerServiceStub:
        return scheduler_pb2_grpc.SchedulerServiceStub(self._open(self.address))

    @cached_property
    def storage(self) -> storage_pb2_grpc.StorageServiceStub:
        mesh = self.call(self.scheduler.GetMesh, scheduler_pb2.GetMeshRequest())
        return storage_pb2_grpc.StorageServiceStub(self._open(mesh.storage_address))

    def _open(self, address: str) -> grpc.Channel:
        channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._channels.append(channel)
        return channel

    def call(self, method: Callable[..., Any], request: Message, heard_before: _Judge | None = None) -> Any:
        """The answer of an idempotent unary call, which is made again when it was not answered.

        `heard_before` is asked when a call that had been made before is refused: the first one may have been heard, and
        its answer lost. It returns what to answer, or raises. An embedded mesh that has ended is not waited for.
        """
        return self._retried(lambda: method(request, timeout=UNARY_DEADLINE), heard_before)

    def pages(self, method: Callable[..., Any], request: Message) -> Iterator[Any]:
        """The answers of a call that streams them."""
        try:
            yield from heard(lambda: method(request, timeout=_TRANSFER_SECONDS))
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.name) from None

    def upload(self, archive: Archive) -> None:
        """Storage has the archive as an artifact then; its bytes are sent only if it had not."""
        found = self.call(self.storage.FindArtifacts, storage_pb2.FindArtifactsRequest(digest=[archive.digest]))
        if archive.digest not in found.digest:
            self._retried(lambda: self.storage.WriteArtifact(_artifact_pieces(archive), timeout=_TRANSFER_SECONDS))

    def check_mesh_stands(self) -> None:
        """Raises MeshUnreachable as soon as an embedded mesh has ended."""
        if self._membership is not None:
            self._membership.check()

    def _retried(self, call: Callable[[], Any], heard_before: _Judge | None = None) -> Any:
        unanswered = 0

        def attempt() -> Any:
            nonlocal unanswered
            try:
                return call()
            except grpc.RpcError as error:
                self.check_mesh_stands()
                unanswered += is_transient(error)
                raise

        try:
            answer = retried(self._patience)(attempt)()
        except grpc.RpcError as error:
            refused = from_rpc_error(error, self.name)
            if not unanswered or heard_before is None:
                raise refused from None
            answer = heard_before(refused)
        self._patience = PATIENCE
        return answer


def _artifact_pieces(archive: Archive) -> Iterator[storage_pb2.WriteArtifactRequest]:
    archive.tar.seek(0)
    yield storage_pb2.WriteArtifactRequest(digest=archive.digest, data=archive.tar.read(PIECE))
    while data := archive.tar.read(PIECE):
        yield storage_pb2.WriteArtifactRequest(data=data)
