"""The calls of StorageService that are about outputs. What touches a disk or a datastore runs on threads.

ReserveOutput ──▶ (WriteOutputFile …) ──▶ CommitOutput, CopyOutput, or ReleaseOutput ──▶ ReadOutput
"""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from batchmesh.calls import PIECE
from batchmesh.errors import SpecRefused
from batchmesh.v1 import job_pb2, storage_pb2, storage_pb2_grpc

from .assembly import FramesDamagedError
from .disk import said_clearly
from .sent_files import NewFile, remove
from .spool import Spool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from concurrent.futures import ThreadPoolExecutor

    from grpc import aio

    from .commits import Commits
    from .manifest import Manifest, Manifests
    from .output import Outputs
    from .places import Places
    from .reservation import Reservations

    Context = aio.ServicerContext[Any, Any]


class OutputService(storage_pb2_grpc.StorageServiceServicer):
    """To be inherited by the service, which sets these."""

    _places: Places
    _reservations: Reservations
    _manifests: Manifests
    _outputs: Outputs
    _commits: Commits[storage_pb2.CommitOutputResponse]
    #: Their threads may wait for a datastore that does not answer; those that write results and logs are others.
    _publishing: ThreadPoolExecutor
    _reserving: ThreadPoolExecutor

    async def _published(self, publish: Callable[..., Manifest], *arguments: object) -> Manifest:
        return await asyncio.get_running_loop().run_in_executor(self._publishing, publish, *arguments)

    async def ReserveOutput(
        self, request: storage_pb2.ReserveOutputRequest, context: Context
    ) -> storage_pb2.ReserveOutputResponse:
        only_summary = request.output_action == job_pb2.OutputAction.OUTPUT_ACTION_SUMMARY_ONLY
        file_name = "" if only_summary else request.append_row_file_name
        job_id, workspace = request.job_id, request.workspace
        self._places.job(job_id)
        own = await asyncio.to_thread(self._manifests.own, job_id) if request.resumed else None
        reserve = partial(self._reservations.reserve, job_id, request.output, request.overwrite, file_name)
        await asyncio.get_running_loop().run_in_executor(self._reserving, reserve, own, workspace)
        return storage_pb2.ReserveOutputResponse()

    async def ReleaseOutput(
        self, request: storage_pb2.ReleaseOutputRequest, context: Context
    ) -> storage_pb2.ReleaseOutputResponse:
        self._commits.check_none(request.job_id)
        await asyncio.to_thread(self._reservations.release, request.job_id)
        return storage_pb2.ReleaseOutputResponse()

    async def WriteOutputFile(
        self, requests: AsyncIterator[storage_pb2.WriteOutputFileRequest], context: Context
    ) -> storage_pb2.WriteOutputFileResponse:
        first = await anext(aiter(requests), storage_pb2.WriteOutputFileRequest())
        if first.removed:
            await asyncio.to_thread(remove, self._places, self._reservations, first.job_id, first.name)
            return storage_pb2.WriteOutputFileResponse()
        file = await asyncio.to_thread(NewFile, self._places, self._reservations, first.job_id, first.name)
        try:
            await asyncio.to_thread(file.write, first.data, first.complete)
            async for request in requests:
                await asyncio.to_thread(file.write, request.data, request.complete)
            await asyncio.to_thread(file.keep)
        finally:
            await asyncio.to_thread(file.discard)
        return storage_pb2.WriteOutputFileResponse()

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
            return _response(done)
        with said_clearly(self._places.jobs):
            spool = await asyncio.to_thread(Spool, self._places.spool(header.job_id) / uuid.uuid4().hex)
        begun = False

        def commit() -> Coroutine[Any, Any, storage_pb2.CommitOutputResponse]:
            nonlocal begun
            begun = True
            return self._commit(header, spool)

        try:
            await asyncio.to_thread(self._add, spool, first)
            async for request in requests:
                await asyncio.to_thread(self._add, spool, request)
            with said_clearly(self._places.jobs):
                await asyncio.to_thread(spool.complete)
            task = self._commits.begun(header.job_id, header.digest, commit)
            # A caller that goes away does not end it: its thread could not be ended, and the output is consistent.
            return await asyncio.shield(task)
        finally:
            if not begun:
                await asyncio.to_thread(spool.discard)

    def _add(self, spool: Spool, request: storage_pb2.CommitOutputRequest) -> None:
        try:
            with said_clearly(self._places.jobs):
                spool.add(request)
        except (ValueError, IndexError) as error:
            raise SpecRefused(f"The columns of a commit do not fit each other: {error}.") from None

    async def _commit(self, header: storage_pb2.CommitHeader, spool: Spool) -> storage_pb2.CommitOutputResponse:
        try:
            return _response(await self._published(self._outputs.commit, header, spool))
        except FramesDamagedError as error:
            damaged = storage_pb2.DamagedFrames(mini_batch=error.mini_batches)
            return storage_pb2.CommitOutputResponse(damaged=damaged)
        finally:
            await asyncio.to_thread(spool.discard)

    async def CopyOutput(
        self, request: storage_pb2.CopyOutputRequest, context: Context
    ) -> storage_pb2.CopyOutputResponse:
        header = request.header
        self._places.job(header.job_id)

        async def copy() -> storage_pb2.CommitOutputResponse:
            return _response(await self._published(self._outputs.copy, header, request.from_job_id))

        done = await asyncio.shield(self._commits.begun(header.job_id, header.digest, copy))
        return storage_pb2.CopyOutputResponse(manifest=done.manifest)

    async def ReadOutput(
        self, request: storage_pb2.ReadOutputRequest, context: Context
    ) -> AsyncIterator[storage_pb2.ReadOutputResponse]:
        async for data in pieces(lambda: self._outputs.open(request.job_id)):
            yield storage_pb2.ReadOutputResponse(data=data)


def _response(manifest: Manifest) -> storage_pb2.CommitOutputResponse:
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


async def pieces(open_file: Callable[[], BinaryIO], offset: int = 0) -> AsyncIterator[bytes]:
    """A file from `offset` on, in pieces that fit into a message."""
    file = await asyncio.to_thread(open_file)
    try:
        await asyncio.to_thread(file.seek, offset)
        while data := await asyncio.to_thread(file.read, PIECE):
            yield data
    finally:
        await asyncio.to_thread(file.close)
