"""How the scheduler speaks to storage: reserving an output, having it assembled, having a job's bytes deleted.

outcomes in the database ──pages, in output order──▶ CommitOutput ──▶ storage ──▶ manifest, or damaged frames
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from batchmesh.calls import UNARY_DEADLINE, open_channel, retried
from batchmesh.entry_messages import entry_of
from batchmesh.errors import NoArtifact
from batchmesh.status import from_rpc_error
from batchmesh.v1 import storage_pb2, storage_pb2_grpc

from .commit_requests import commit_requests
from .supplies import artifacts_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from batchmesh.entries import Entry
    from batchmesh.v1 import job_pb2

    from .jobs import JobRecord
    from .store import Store

#: Seconds for which a unary call is tried again before the caller is told that storage does not answer.
_PATIENCE = 10.0
#: Seconds within which storage has looked at all that it keeps.
_LISTING_DEADLINE = 600.0
#: Seconds within which storage assembles an output of any size.
_COMMIT_DEADLINE = 6 * 3600.0


class Publisher:
    """Calls storage at `address`. Raises the errors that storage does; MeshUnreachable when it does not answer."""

    def __init__(self, address: str, store: Store) -> None:
        self._channel = open_channel(address)
        self._stub: storage_pb2_grpc.StorageServiceAsyncStub = storage_pb2_grpc.StorageServiceStub(self._channel)
        self._store = store

    async def close(self) -> None:
        await self._channel.close()

    async def address(self) -> str:
        """Where agents and clients reach storage."""
        response: storage_pb2.GetStorageResponse = await self._ask(
            self._stub.GetStorage, storage_pb2.GetStorageRequest()
        )
        return response.address

    async def check_artifacts(self, spec: job_pb2.JobSpec) -> None:
        """Raises NoArtifact unless storage has the source, the models and the side inputs."""
        wanted = artifacts_of(spec)
        request = storage_pb2.FindArtifactsRequest(digest=wanted)
        found: storage_pb2.FindArtifactsResponse = await self._ask(self._stub.FindArtifacts, request)
        for digest in wanted.keys() - set(found.digest):
            what = wanted[digest]
            raise NoArtifact(f"Storage does not have {what} ({digest[:12]}…); send it with WriteArtifact first.")

    async def reserve(self, job_id: str, spec: job_pb2.JobSpec, *, resumed: bool = False) -> None:
        """Raises OutputNotEmpty, OutputReserved or OutputUnwritable."""
        request = storage_pb2.ReserveOutputRequest(
            job_id=job_id,
            output=spec.output,
            overwrite=spec.overwrite,
            output_action=spec.output_action,
            append_row_file_name=spec.append_row_file_name,
            resumed=resumed,
            workspace=spec.workspace,
        )
        await self._ask(self._stub.ReserveOutput, request)

    async def release(self, job_id: str) -> None:
        await self._ask(self._stub.ReleaseOutput, storage_pb2.ReleaseOutputRequest(job_id=job_id))

    async def delete(self, job_id: str) -> None:
        await self._ask(self._stub.DeleteJob, storage_pb2.StorageServiceDeleteJobRequest(job_id=job_id))

    async def credentials(self, workspace: str, datastore: str) -> Entry:
        """A datastore with what opens it. Errors: NoEntry."""
        request = storage_pb2.GetCredentialsRequest(workspace=workspace, datastore=datastore)
        found: storage_pb2.GetCredentialsResponse = await self._ask(self._stub.GetCredentials, request)
        return entry_of(found.entry)

    async def usage(self) -> dict[str, int]:
        """Bytes that storage keeps for each job."""
        found: dict[str, int] = {}
        try:
            async for response in self._stub.ListUsage(storage_pb2.ListUsageRequest(), timeout=_LISTING_DEADLINE):
                found.update((job.job_id, job.bytes) for job in response.jobs)
        except grpc.RpcError as error:
            raise from_rpc_error(error, "Storage") from None
        return found

    async def trim_artifacts(self, keep: list[str], limit: int) -> None:
        """Has storage delete sources that are not among `keep`, until all together take at most `limit` bytes."""
        await self._ask(self._stub.TrimArtifacts, storage_pb2.TrimArtifactsRequest(keep=keep, limit=limit))

    @staticmethod
    async def _ask(method: Callable[..., Awaitable[Any]], request: Message) -> Any:
        try:
            return await retried(_PATIENCE)(method)(request, timeout=UNARY_DEADLINE)
        except grpc.RpcError as error:
            raise from_rpc_error(error, "Storage") from None

    async def commit(self, record: JobRecord, summary_json: str, report_only: bool) -> storage_pb2.CommitOutputResponse:
        """Has storage publish the output and the report, or the report alone. Safe to call again."""
        header = _header(record, "report" if report_only else "output", summary_json)
        header.report_only = report_only
        requests = commit_requests(self._store, record.row.number, record.spec.run_max_try, header)
        try:
            return await self._stub.CommitOutput(requests, timeout=_COMMIT_DEADLINE)
        except grpc.RpcError as error:
            raise from_rpc_error(error, "Storage") from None

    async def copy(self, record: JobRecord, summary_json: str, from_job_id: str) -> storage_pb2.Manifest:
        """Has storage publish what an earlier job has published as this job's output. Safe to call again.

        Errors: NoOutput when that is gone or has changed, and those of `commit`.
        """
        header = _header(record, "reused", summary_json)
        request = storage_pb2.CopyOutputRequest(header=header, from_job_id=from_job_id)
        try:
            response: storage_pb2.CopyOutputResponse = await self._stub.CopyOutput(request, timeout=_COMMIT_DEADLINE)
        except grpc.RpcError as error:
            raise from_rpc_error(error, "Storage") from None
        return response.manifest


def _header(record: JobRecord, what: str, summary_json: str) -> storage_pb2.CommitHeader:
    return storage_pb2.CommitHeader(
        job_id=record.row.job_id,
        digest=f"{record.row.round}-{what}",
        output=record.spec.output,
        output_action=record.spec.output_action,
        append_row_file_name=record.spec.append_row_file_name,
        summary_json=summary_json,
    )
