"""StorageService: from messages to the nouns and back. What touches the disk runs on threads, not on the event loop."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from batchmesh.calls import PIECE
from batchmesh.errors import CommitRunning, SpecRefused
from batchmesh.v1 import job_pb2, storage_pb2, storage_pb2_grpc
from batchmesh.version import VERSION

from .artifacts import Artifacts
from .disk import make_folder, said_clearly, sync_folder
from .logs import Logs
from .manifest import Manifest, Manifests
from .output import FramesDamagedError, Outputs
from .places import Places
from .reservation import Reservations
from .segments import Segments
from .spool import Spool
from .usage import usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpc import aio

    from .config import Config

    Context = aio.ServicerContext[Any, Any]

SERVICE_NAME = storage_pb2.DESCRIPTOR.services_by_name["StorageService"].full_name


class _Commit(NamedTuple):
    """An output that is being written."""

    digest: str
    spool: Spool
    task: asyncio.Task[storage_pb2.CommitOutputResponse]


class StorageService(storage_pb2_grpc.StorageServiceServicer):
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
            self._reservations = Reservations(self._places)
        self._manifests = Manifests(self._places)
        self._outputs = Outputs(self._places, self._reservations, self._manifests)
        self._logs = Logs(self._places, config)
        self._segments = Segments(self._places, config.durable_delay, config.unwritten_limit)
        #: By job; a commit goes on when its caller has gone.
        self._commits: dict[str, _Commit] = {}

    async def end(self) -> None:
        """Ends when what was begun is durable."""
        await asyncio.gather(*(commit.task for commit in self._commits.values()), return_exceptions=True)
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

    async def ReserveOutput(
        self, request: storage_pb2.ReserveOutputRequest, context: Context
    ) -> storage_pb2.ReserveOutputResponse:
        only_summary = request.output_action == job_pb2.OutputAction.OUTPUT_ACTION_SUMMARY_ONLY
        file_name = "" if only_summary else request.append_row_file_name
        job_id = request.job_id
        self._places.job(job_id)
        own = await asyncio.to_thread(self._manifests.own, job_id) if request.resumed else None
        await asyncio.to_thread(self._reservations.reserve, job_id, request.output, request.overwrite, file_name, own)
        return storage_pb2.ReserveOutputResponse()

    async def ReleaseOutput(
        self, request: storage_pb2.ReleaseOutputRequest, context: Context
    ) -> storage_pb2.ReleaseOutputResponse:
        self._check_no_commit(request.job_id)
        await asyncio.to_thread(self._reservations.release, request.job_id)
        return storage_pb2.ReleaseOutputResponse()

    async def CommitOutput(
        self, requests: AsyncIterator[storage_pb2.CommitOutputRequest], context: Context
    ) -> storage_pb2.CommitOutputResponse:
        first = await anext(aiter(requests), storage_pb2.CommitOutputRequest())
        header = first.header
        self._places.job(header.job_id)
        done = await asyncio.to_thread(self._outputs.published, header.job_id, header.digest)
        if done:
            async for _ in requests:
                pass
            return _manifest_response(done)
        with said_clearly(self._places.jobs):
            spool = await asyncio.to_thread(Spool, self._places.spool(header.job_id) / uuid.uuid4().hex)
        try:
            await asyncio.to_thread(self._add, spool, first)
            async for request in requests:
                await asyncio.to_thread(self._add, spool, request)
            with said_clearly(self._places.jobs):
                await asyncio.to_thread(spool.complete)
            commit = self._begin(header, spool)
        except BaseException:
            await asyncio.to_thread(spool.discard)
            raise
        if commit.spool is not spool:
            await asyncio.to_thread(spool.discard)
        # A caller that goes away does not end the commit: its thread could not be ended, and the output is consistent.
        return await asyncio.shield(commit.task)

    def _add(self, spool: Spool, request: storage_pb2.CommitOutputRequest) -> None:
        try:
            with said_clearly(self._places.jobs):
                spool.add(request)
        except (ValueError, IndexError) as error:
            raise SpecRefused(f"The columns of a commit do not fit each other: {error}.") from None

    def _begin(self, header: storage_pb2.CommitHeader, spool: Spool) -> _Commit:
        """The commit that has this digest, running or begun now; raises CommitRunning when another one runs."""
        running = self._commits.get(header.job_id)
        if running and running.digest == header.digest:
            return running  # a scheduler that was started again says once more what its predecessor has said
        self._check_no_commit(header.job_id)
        begun = _Commit(header.digest, spool, asyncio.create_task(self._commit(header, spool)))
        self._commits[header.job_id] = begun
        return begun

    async def _commit(self, header: storage_pb2.CommitHeader, spool: Spool) -> storage_pb2.CommitOutputResponse:
        try:
            return _manifest_response(await asyncio.to_thread(self._outputs.commit, header, spool))
        except FramesDamagedError as error:
            damaged = storage_pb2.DamagedFrames(mini_batch=error.mini_batches)
            return storage_pb2.CommitOutputResponse(damaged=damaged)
        finally:
            del self._commits[header.job_id]
            await asyncio.to_thread(spool.discard)

    def _check_no_commit(self, job_id: str) -> None:
        if job_id in self._commits:
            raise CommitRunning(f"The output of job {job_id} is being written; ask again.")

    async def ReadOutput(
        self, request: storage_pb2.ReadOutputRequest, context: Context
    ) -> AsyncIterator[storage_pb2.ReadOutputResponse]:
        async for data in _pieces(lambda: self._outputs.open(request.job_id)):
            yield storage_pb2.ReadOutputResponse(data=data)

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
        async for data in _pieces(lambda: self._artifacts.open(request.digest)):
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
        async for data in _pieces(lambda: self._logs.open(request.job_id, request.name), request.offset):
            yield storage_pb2.ReadLogResponse(data=data)

    async def DeleteJob(
        self, request: storage_pb2.StorageServiceDeleteJobRequest, context: Context
    ) -> storage_pb2.StorageServiceDeleteJobResponse:
        self._check_no_commit(request.job_id)
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
        keep, limit = frozenset(request.keep), request.limit
        deleted, left = await asyncio.to_thread(self._artifacts.trim, keep, limit, time.time())
        return storage_pb2.TrimArtifactsResponse(deleted=deleted, bytes=left)


def _clear_leftovers(places: Places) -> None:
    shutil.rmtree(places.trash, ignore_errors=True)
    for spool in places.jobs.glob("*/commit"):
        shutil.rmtree(spool, ignore_errors=True)


def _manifest_response(manifest: Manifest) -> storage_pb2.CommitOutputResponse:
    return storage_pb2.CommitOutputResponse(
        manifest=storage_pb2.Manifest(
            job_id=manifest.job_id,
            digest=manifest.digest,
            output_path=manifest.output_path,
            report_path=manifest.report_path,
            rows=manifest.rows,
            bytes=manifest.bytes,
        )
    )


async def _pieces(open_file: Callable[[], BinaryIO], offset: int = 0) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(open_file)
    try:
        await asyncio.to_thread(file.seek, offset)
        while data := await asyncio.to_thread(file.read, PIECE):
            yield data
    finally:
        await asyncio.to_thread(file.close)
