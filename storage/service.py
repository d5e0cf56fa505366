"""StorageService: from messages to the nouns and back. What touches the disk runs on threads, not on the event loop."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from typing import TYPE_CHECKING, Any, BinaryIO

from batchmesh.calls import PIECE
from batchmesh.errors import CommitRunning, SpecRefused
from batchmesh.v1 import job_pb2, storage_pb2, storage_pb2_grpc
from batchmesh.version import VERSION

from .artifacts import Artifacts
from .disk import make_folder, sync_folder
from .logs import Logs
from .output import FramesDamagedError, Manifest, Outputs
from .places import Places
from .reservation import Reservations
from .segments import Segments
from .spool import Spool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpc import aio

    from .config import Config

    Context = aio.ServicerContext[Any, Any]

SERVICE_NAME = storage_pb2.DESCRIPTOR.services_by_name["StorageService"].full_name


class StorageService(storage_pb2_grpc.StorageServiceServicer):
    """Built on the event loop; `address` is what others reach this storage under."""

    def __init__(self, config: Config) -> None:
        self.address = ""
        self._places = Places(config.root)
        for folder in (self._places.jobs, self._places.artifacts):
            make_folder(folder)
        _clear_leftovers(self._places)
        self._segments = Segments(self._places, config.durable_delay)
        self._reservations = Reservations(self._places)
        self._outputs = Outputs(self._places, self._reservations)
        self._artifacts = Artifacts(self._places.artifacts, config.artifact_limit)
        self._logs = Logs(self._places, config)
        #: Jobs whose output is being written; a commit goes on when its caller has gone.
        self._commits: dict[str, asyncio.Task[storage_pb2.CommitOutputResponse]] = {}

    async def end(self) -> None:
        """Ends when what was begun is durable."""
        await asyncio.gather(*self._commits.values(), return_exceptions=True)
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
        await asyncio.to_thread(
            self._reservations.reserve, request.job_id, request.output, request.overwrite, file_name
        )
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
        job_id = first.header.job_id
        self._places.job(job_id)
        done = await asyncio.to_thread(self._outputs.published, job_id, first.header.digest)
        if done:
            async for _ in requests:
                pass
            return _manifest_response(done)
        spool = await asyncio.to_thread(Spool, self._places.spool(job_id) / uuid.uuid4().hex)
        try:
            await asyncio.to_thread(_add, spool, first)
            async for request in requests:
                await asyncio.to_thread(_add, spool, request)
            await asyncio.to_thread(spool.complete)
            self._check_no_commit(job_id)
            task = asyncio.create_task(self._commit(first.header, spool))
        except BaseException:
            await asyncio.to_thread(spool.discard)
            raise
        self._commits[job_id] = task
        # A caller that goes away does not end the commit: its thread could not be ended, and the output is consistent.
        return await asyncio.shield(task)

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
        self._places.job(request.job_id)
        self._check_no_commit(request.job_id)
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
        make_folder(self._places.trash)
        folder.rename(gone)
        sync_folder(self._places.jobs)
        shutil.rmtree(gone)


def _clear_leftovers(places: Places) -> None:
    shutil.rmtree(places.trash, ignore_errors=True)
    for spool in places.jobs.glob("*/commit"):
        shutil.rmtree(spool, ignore_errors=True)


def _add(spool: Spool, request: storage_pb2.CommitOutputRequest) -> None:
    try:
        spool.add(request)
    except (ValueError, IndexError) as error:
        raise SpecRefused(f"The columns of a commit do not fit each other: {error}.") from None


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
