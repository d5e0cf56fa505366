"""StorageService: from messages to the nouns and back. What touches the disk runs on threads, not on the event loop."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from batchmesh.datastores.opening import open_datastore
from batchmesh.v1 import storage_pb2
from batchmesh.version import VERSION

from .artifacts import Artifacts
from .catalog import Catalog
from .catalog_service import CatalogService
from .commits import Commits
from .disk import make_folder, said_clearly, sync_folder
from .logs import Logs
from .manifest import Manifests
from .output import Outputs
from .output_service import OutputService, pieces
from .places import Places
from .reservation import Reservations
from .segments import Segments
from .usage import usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpc import aio

    from batchmesh.datastores.store import Datastore

    from .config import Config

    Context = aio.ServicerContext[Any, Any]

#: Outputs that are written at once, and that are reserved at once.
_PUBLISHING, _RESERVING = 16, 16

SERVICE_NAME = storage_pb2.DESCRIPTOR.services_by_name["StorageService"].full_name


class StorageService(CatalogService, OutputService):
    """Built on the event loop; `address` is what others reach this storage under.

    Raises DiskFull, DiskFailing or OutputUnwritable when its root cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self.address = ""
        self._places = Places(config.root)
        with said_clearly(config.root):
            _clear_leftovers(self._places)
            for folder in (self._places.jobs, self._places.artifacts, self._places.trash):
                make_folder(folder)
            self._artifacts = Artifacts(self._places.artifacts, config.artifact_limit)
            self._catalog = Catalog(self._places, self._artifacts.has)
            self._reservations = Reservations(self._places, partial(self._datastore, patient=False))
        self._manifests = Manifests(self._places)
        self._outputs = Outputs(self._places, self._reservations, self._manifests, self._datastore)
        self._logs = Logs(self._places, config)
        self._segments = Segments(self._places, config.durable_delay, config.unwritten_limit)
        self._commits = Commits()
        self._publishing = ThreadPoolExecutor(_PUBLISHING, "publish")
        self._reserving = ThreadPoolExecutor(_RESERVING, "reserve")

    def _datastore(self, workspace: str, name: str, *, patient: bool = True) -> Datastore:
        return open_datastore(self._catalog.credentials(workspace, name), patient=patient)

    async def end(self) -> None:
        """Ends when what was begun is durable."""
        await self._commits.end()
        for threads in (self._publishing, self._reserving):
            threads.shutdown(wait=False)
        await self._segments.end()

    async def GetStorage(
        self, request: storage_pb2.GetStorageRequest, context: Context
    ) -> storage_pb2.GetStorageResponse:
        return storage_pb2.GetStorageResponse(address=self.address, version=VERSION)

    async def WriteSegments(
        self, requests: AsyncIterator[storage_pb2.WriteSegmentsRequest], context: Context
    ) -> AsyncIterator[storage_pb2.WriteSegmentsResponse]:
        job_id = name = ""
        try:
            async for request in requests:
                if request.segment and name and request.segment != name:
                    self._segments.release(job_id, name)
                job_id, name = request.job_id or job_id, request.segment or name
                durable = await self._segments.append(job_id, name, request.offset, request.block)
                yield storage_pb2.WriteSegmentsResponse(durable=durable)
        finally:
            if name:
                self._segments.release(job_id, name)

    async def FindArtifacts(
        self, request: storage_pb2.FindArtifactsRequest, context: Context
    ) -> storage_pb2.FindArtifactsResponse:
        digests = list(request.digest)
        found = await asyncio.to_thread(lambda: [digest for digest in digests if self._artifacts.has(digest)])
        return storage_pb2.FindArtifactsResponse(digest=found)

    async def WriteArtifact(
        self, requests: AsyncIterator[storage_pb2.WriteArtifactRequest], context: Context
    ) -> storage_pb2.WriteArtifactResponse:
        first = await anext(aiter(requests), storage_pb2.WriteArtifactRequest())
        artifact = await asyncio.to_thread(self._artifacts.new, first.digest)
        try:
            await asyncio.to_thread(artifact.write, first.data)
            async for request in requests:
                await asyncio.to_thread(artifact.write, request.data)
            await asyncio.to_thread(artifact.keep)
        finally:
            await asyncio.to_thread(artifact.discard)
        return storage_pb2.WriteArtifactResponse()

    async def ReadArtifact(
        self, request: storage_pb2.ReadArtifactRequest, context: Context
    ) -> AsyncIterator[storage_pb2.ReadArtifactResponse]:
        async for data in pieces(lambda: self._artifacts.open(request.digest)):
            yield storage_pb2.ReadArtifactResponse(data=data)

    async def AppendLog(self, request: storage_pb2.AppendLogRequest, context: Context) -> storage_pb2.AppendLogResponse:
        size = await asyncio.to_thread(self._logs.append, request.job_id, request.name, request.offset, request.data)
        return storage_pb2.AppendLogResponse(size=size)

    async def ListLogs(self, request: storage_pb2.ListLogsRequest, context: Context) -> storage_pb2.ListLogsResponse:
        found = await asyncio.to_thread(self._logs.list, request.job_id)
        return storage_pb2.ListLogsResponse(logs=[storage_pb2.LogFile(name=name, size=size) for name, size in found])

    async def ReadLog(
        self, request: storage_pb2.ReadLogRequest, context: Context
    ) -> AsyncIterator[storage_pb2.ReadLogResponse]:
        async for data in pieces(lambda: self._logs.open(request.job_id, request.name), request.offset):
            yield storage_pb2.ReadLogResponse(data=data)

    async def DeleteJob(
        self, request: storage_pb2.StorageServiceDeleteJobRequest, context: Context
    ) -> storage_pb2.StorageServiceDeleteJobResponse:
        self._commits.check_none(request.job_id)
        self._places.job(request.job_id)
        await self._segments.forget(request.job_id)
        await asyncio.to_thread(self._delete, request.job_id)
        return storage_pb2.StorageServiceDeleteJobResponse()

    def _delete(self, job_id: str) -> None:
        self._reservations.release(job_id)
        self._logs.forget(job_id)
        folder = self._places.job(job_id)
        if not folder.exists():
            return
        # First out of sight as a whole: a deletion that is interrupted leaves no half of a job.
        gone = self._places.trash / f"{job_id}-{uuid.uuid4().hex}"
        with said_clearly(folder):
            folder.rename(gone)
            sync_folder(self._places.jobs)
            shutil.rmtree(gone)

    async def ListUsage(
        self, request: storage_pb2.ListUsageRequest, context: Context
    ) -> AsyncIterator[storage_pb2.ListUsageResponse]:
        pages = usage(self._places)
        while page := await asyncio.to_thread(next, pages, None):
            yield storage_pb2.ListUsageResponse(
                jobs=[storage_pb2.JobUsage(job_id=job_id, bytes=size) for job_id, size in page]
            )

    async def TrimArtifacts(
        self, request: storage_pb2.TrimArtifactsRequest, context: Context
    ) -> storage_pb2.TrimArtifactsResponse:
        keep = frozenset(request.keep) | await asyncio.to_thread(self._catalog.artifacts)
        deleted, left = await asyncio.to_thread(self._artifacts.trim, keep, request.limit, time.time())
        return storage_pb2.TrimArtifactsResponse(deleted=deleted, bytes=left)


def _clear_leftovers(places: Places) -> None:
    shutil.rmtree(places.trash, ignore_errors=True)
    for name in ("commit", "incoming"):
        for left in places.jobs.glob(f"*/{name}"):
            shutil.rmtree(left, ignore_errors=True)
