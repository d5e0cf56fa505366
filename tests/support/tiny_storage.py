"""A storage in memory behind real gRPC: enough for an agent, with knobs for what a real one does when it is ill."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import grpc

from batchmesh import calls, errors, serving
from batchmesh.v1 import catalog_pb2, storage_pb2, storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class TinyStorage(storage_pb2_grpc.StorageServiceServicer):
    """Keeps artifacts, segments and logs as bytes. `takes` is cleared to make it stop acknowledging."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}
        self.segments: dict[tuple[str, str], bytearray] = defaultdict(bytearray)
        self.logs: dict[tuple[str, str], bytearray] = defaultdict(bytearray)
        self.reads = 0
        self.messages = 0
        #: WriteSegments calls so far.
        self.streams = 0
        self.takes = asyncio.Event()
        self.takes.set()
        #: Cleared to make it send no artifacts for a while.
        self.sends = asyncio.Event()
        self.sends.set()
        #: So many next messages are written but the stream ends with an error before their acknowledgement.
        self.break_after_writing = 0
        #: Datastores with their credentials, by name, and how often they were asked for.
        self.datastores: dict[str, catalog_pb2.CatalogEntry] = {}
        self.asked_for_credentials = 0
        #: What scripts have written, by job and name; names that are refused, and how often one was sent.
        self.files: dict[tuple[str, str], bytes] = {}
        self.refused_names: set[str] = set()
        self.sent_files = 0
        #: There is no room for results; nobody is told of credentials.
        self.full = self.away = False

    def add_source(self, files: Mapping[str, str]) -> str:
        """Stores a source folder with these files; returns its digest."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, text in files.items():
                data = text.encode()
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        self.artifacts[digest] = buffer.getvalue()
        return digest

    def log(self, job_id: str, stream: str) -> str:
        """What all workers of a job have printed there."""
        found = [data for (job, name), data in sorted(self.logs.items()) if job == job_id and f"/{stream}/" in name]
        return b"".join(found).decode(errors="replace")

    async def serve(self, address: str) -> Any:
        """A started server at `address`."""
        name = storage_pb2.DESCRIPTOR.services_by_name["StorageService"].full_name
        server, _ = serving.new_server(
            lambda server: storage_pb2_grpc.add_StorageServiceServicer_to_server(self, server), [name]
        )
        server.add_insecure_port(address)
        await server.start()
        return server

    async def ReadArtifact(self, request: Any, context: Any) -> AsyncIterator[storage_pb2.ReadArtifactResponse]:
        self.reads += 1
        await self.sends.wait()
        data = self.artifacts.get(request.digest)
        if data is None:
            raise errors.NoArtifact(f"There is no artifact {request.digest}.")
        for at in range(0, len(data), calls.PIECE):
            yield storage_pb2.ReadArtifactResponse(data=data[at : at + calls.PIECE])

    async def WriteSegments(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[storage_pb2.WriteSegmentsResponse]:
        key = ("", "")
        self.streams += 1
        async for request in request_iterator:
            await self.takes.wait()
            self.messages += 1
            if self.full:
                raise errors.DiskFull("The disk is full, says the test.")
            if request.segment:
                key = (request.job_id, request.segment)
            segment = self.segments[key]
            if request.offset > len(segment):
                raise errors.Gap(f"{key} ends at {len(segment)}, before {request.offset}.")
            segment += request.block[len(segment) - request.offset :]
            if self.break_after_writing:
                self.break_after_writing -= 1
                raise errors.DiskFull("The disk is full, says the test.")
            yield storage_pb2.WriteSegmentsResponse(durable=len(segment))

    async def GetCredentials(self, request: Any, context: Any) -> storage_pb2.GetCredentialsResponse:
        self.asked_for_credentials += 1
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away, says the test")
        if request.datastore not in self.datastores:
            raise errors.NoEntry(f"Workspace {request.workspace} has no datastore {request.datastore}.")
        return storage_pb2.GetCredentialsResponse(entry=self.datastores[request.datastore])

    async def WriteOutputFile(self, request_iterator: Any, context: Any) -> storage_pb2.WriteOutputFileResponse:
        requests = [request async for request in request_iterator]
        await self.takes.wait()
        if self.full:
            raise errors.DiskFull("The disk is full, says the test.")
        job, name = requests[0].job_id, requests[0].name
        if name in self.refused_names:
            raise errors.BadName(f"{name} is no name, says the test.")
        assert requests[-1].complete
        self.sent_files += 1
        if requests[0].removed:
            self.files.pop((job, name), None)
        else:
            self.files[job, name] = b"".join(request.data for request in requests)
        return storage_pb2.WriteOutputFileResponse()

    async def AppendLog(self, request: Any, context: Any) -> storage_pb2.AppendLogResponse:
        kept = self.logs[request.job_id, request.name]
        if request.offset > len(kept):
            raise errors.Gap(f"{request.name} ends at {len(kept)}.")
        kept += request.data[len(kept) - request.offset :]
        return storage_pb2.AppendLogResponse(size=len(kept))
