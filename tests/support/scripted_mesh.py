"""A scheduler and a storage of a test's own making: real gRPC on a real port, and answers as the test scripts them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc

from batchmesh.errors import NoJob
from batchmesh.serving import SERVER_OPTIONS
from batchmesh.status import to_status
from batchmesh.v1 import job_pb2, scheduler_pb2, scheduler_pb2_grpc, storage_pb2, storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.errors import BatchmeshError

#: Jobs on one page of a listing.
PAGE = 2


@dataclass
class ScriptedMesh:
    """Use as a context manager. What it was asked, and what it is to fail with, are its fields."""

    jobs: dict[str, job_pb2.Job] = field(default_factory=dict)
    #: States that WatchJob tells, one stream after the other; a stream without a final state at its end just ends.
    streams: list[list[job_pb2.Job]] = field(default_factory=list)
    #: What the next unary calls fail with, before any is answered.
    failures: list[BatchmeshError] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    outputs: dict[str, list[bytes]] = field(default_factory=dict)
    #: Names of the calls that came in, failed ones too.
    asked: list[str] = field(default_factory=list)
    submitted: list[scheduler_pb2.SubmitJobRequest] = field(default_factory=list)
    resumed: list[scheduler_pb2.ResumeJobRequest] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def open(self) -> None:
        self._closing = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(8), options=SERVER_OPTIONS)
        scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(_Scheduler(self), self._server)  # type: ignore[abstract]
        storage_pb2_grpc.add_StorageServiceServicer_to_server(_Storage(self), self._server)  # type: ignore[abstract]
        self.port = self._server.add_insecure_port(self.address)
        self._server.start()

    def close(self) -> None:
        self._closing.set()
        self._server.stop(grace=None).wait()

    def until_closed(self) -> None:
        self._closing.wait()

    def hear(self, name: str, context: grpc.ServicerContext) -> None:
        """Notes the call, and fails it if that is its part."""
        self.asked.append(name)
        if self.failures:
            context.abort_with_status(to_status(self.failures.pop(0)))


class _Scheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    def __init__(self, mesh: ScriptedMesh) -> None:
        self._mesh = mesh

    def _job(self, job_id: str, context: grpc.ServicerContext) -> job_pb2.Job:
        if job_id not in self._mesh.jobs:
            context.abort_with_status(to_status(NoJob(f"There is no job '{job_id}'.")))
        return self._mesh.jobs[job_id]

    def SubmitJob(self, request: scheduler_pb2.SubmitJobRequest, context: Any) -> scheduler_pb2.SubmitJobResponse:
        self._mesh.submitted.append(request)
        self._mesh.hear("SubmitJob", context)
        job = job_pb2.Job(job_id=request.job_id, spec=request.spec, state=job_pb2.Job.STATE_PENDING)
        self._mesh.jobs[request.job_id] = job
        return scheduler_pb2.SubmitJobResponse(job=job)

    def GetJob(self, request: scheduler_pb2.GetJobRequest, context: Any) -> scheduler_pb2.GetJobResponse:
        self._mesh.hear("GetJob", context)
        return scheduler_pb2.GetJobResponse(job=self._job(request.job_id, context))

    def ListJobs(self, request: scheduler_pb2.ListJobsRequest, context: Any) -> scheduler_pb2.ListJobsResponse:
        self._mesh.hear("ListJobs", context)
        jobs, begin = list(self._mesh.jobs.values()), int(request.page_token or 0)
        more = str(begin + PAGE) if begin + PAGE < len(jobs) else ""
        return scheduler_pb2.ListJobsResponse(jobs=jobs[begin : begin + PAGE], next_page_token=more)

    def WatchJob(
        self, request: scheduler_pb2.WatchJobRequest, context: Any
    ) -> Iterator[scheduler_pb2.WatchJobResponse]:
        self._mesh.asked.append("WatchJob")
        if not self._mesh.streams:
            self._mesh.until_closed()
            return
        for job in self._mesh.streams.pop(0):
            yield scheduler_pb2.WatchJobResponse(job=job)

    def CancelJob(self, request: scheduler_pb2.CancelJobRequest, context: Any) -> scheduler_pb2.CancelJobResponse:
        self._mesh.hear("CancelJob", context)
        return scheduler_pb2.CancelJobResponse(job=self._job(request.job_id, context))

    def ResumeJob(self, request: scheduler_pb2.ResumeJobRequest, context: Any) -> scheduler_pb2.ResumeJobResponse:
        self._mesh.resumed.append(request)
        self._mesh.hear("ResumeJob", context)
        return scheduler_pb2.ResumeJobResponse(job=self._job(request.job_id, context))

    def DeleteJob(self, request: scheduler_pb2.DeleteJobRequest, context: Any) -> scheduler_pb2.DeleteJobResponse:
        self._mesh.hear("DeleteJob", context)
        return scheduler_pb2.DeleteJobResponse()

    def ListNodes(self, request: scheduler_pb2.ListNodesRequest, context: Any) -> scheduler_pb2.ListNodesResponse:
        node = scheduler_pb2.Node(node_id="node-1", slots=2, state=scheduler_pb2.Node.STATE_DRAINING)
        node.joined.seconds = 1
        return scheduler_pb2.ListNodesResponse(nodes=[node])

    def GetMesh(self, request: scheduler_pb2.GetMeshRequest, context: Any) -> scheduler_pb2.GetMeshResponse:
        return scheduler_pb2.GetMeshResponse(version="1.2.3", storage_address=self._mesh.address)


class _Storage(storage_pb2_grpc.StorageServiceServicer):
    def __init__(self, mesh: ScriptedMesh) -> None:
        self._mesh = mesh

    def FindArtifacts(
        self, request: storage_pb2.FindArtifactsRequest, context: Any
    ) -> storage_pb2.FindArtifactsResponse:
        return storage_pb2.FindArtifactsResponse(
            digest=[each for each in request.digest if each in self._mesh.artifacts]
        )

    def WriteArtifact(
        self, request_iterator: Iterator[storage_pb2.WriteArtifactRequest], context: Any
    ) -> storage_pb2.WriteArtifactResponse:
        requests = list(request_iterator)
        self._mesh.hear("WriteArtifact", context)
        self._mesh.pieces = [len(each.data) for each in requests]
        self._mesh.artifacts[requests[0].digest] = b"".join(each.data for each in requests)
        return storage_pb2.WriteArtifactResponse()

    def ReadOutput(
        self, request: storage_pb2.ReadOutputRequest, context: Any
    ) -> Iterator[storage_pb2.ReadOutputResponse]:
        for data in self._mesh.outputs[request.job_id]:
            yield storage_pb2.ReadOutputResponse(data=data)

    def ListLogs(self, request: storage_pb2.ListLogsRequest, context: Any) -> storage_pb2.ListLogsResponse:
        return storage_pb2.ListLogsResponse(logs=[storage_pb2.LogFile(name="user/stdout/n/process000.txt", size=3)])

    def ReadLog(self, request: storage_pb2.ReadLogRequest, context: Any) -> Iterator[storage_pb2.ReadLogResponse]:
        yield storage_pb2.ReadLogResponse(data=b"log"[request.offset :])
