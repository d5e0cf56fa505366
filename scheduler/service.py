"""SchedulerService as the proto says it: requests become questions to the store and events for the dispatcher."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from batchmesh.errors import (
    BadPageToken,
    JobCommitting,
    JobEnded,
    JobNotResumable,
    MeshUnreachable,
    NoJob,
)
from batchmesh.v1 import job_pb2, scheduler_pb2, scheduler_pb2_grpc
from batchmesh.version import VERSION

from . import reopening, reuse, tables
from .admission import Admission, requested
from .counting import counted
from .events import JobCancelled
from .jobs import JobRecord
from .model import ACTIVE, State
from .spec import limits_of, resumed_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from grpc import aio

    from .anteroom import Anteroom
    from .compute import ComputeTargets
    from .config import Config
    from .dispatcher import Dispatcher
    from .housekeeping import Housekeeping
    from .model import Counts
    from .publisher import Publisher
    from .store import Store

    Context = aio.ServicerContext[Any, Any]

_Answer = TypeVar("_Answer")

_PAGE = 100
#: Bytes of one page of jobs at most, for specs may name many inputs.
_PAGE_BYTES = 2 * 2**20
#: What a job waits for while there is no node, on a standing mesh and on an embedded one.
_WITHOUT_NODES = ("no node has joined; start one with `batchmesh agent`", "this mesh's agent is starting")
#: Seconds for which a call waits for a scheduler that takes up its jobs.
_PATIENCE = 10.0


class SchedulerService(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Thin: what it decides is only whether a request can be taken at all."""

    def __init__(
        self,
        config: Config,
        store: Store,
        dispatcher: Dispatcher,
        publisher: Publisher,
        housekeeping: Housekeeping,
        targets: ComputeTargets,
        anteroom: Anteroom,
    ) -> None:
        self._config = config
        self._store = store
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._housekeeping = housekeeping
        self._targets = targets
        self._anteroom = anteroom
        self._admission = Admission(config, store, publisher, dispatcher, anteroom, targets)
        self._begun = asyncio.Event()
        self._acts: set[asyncio.Task[Any]] = set()
        #: What jobs that run were resumed with: the same request again is the same act.
        self._resumed: dict[str, scheduler_pb2.ResumeJobRequest] = {}

    def begin(self) -> None:
        """All jobs that had not ended are taken up; until then what is asked about jobs waits."""
        self._begun.set()

    async def SubmitJob(
        self, request: scheduler_pb2.SubmitJobRequest, context: Context
    ) -> scheduler_pb2.SubmitJobResponse:
        job_id = request.job_id or f"job-{secrets.token_hex(5)}"
        await self._found_begun()
        await self._whole(self._admission.admit({job_id: request.spec}, request.attended))
        return scheduler_pb2.SubmitJobResponse(job=self._snapshot(await self._record(job_id)))

    async def SubmitJobs(
        self, request: scheduler_pb2.SubmitJobsRequest, context: Context
    ) -> scheduler_pb2.SubmitJobsResponse:
        specs = requested(request)
        await self._found_begun()
        await self._whole(self._admission.admit(specs, all(each.attended for each in request.jobs)))
        jobs = [self._snapshot(await self._record(job_id)) for job_id in specs]
        return scheduler_pb2.SubmitJobsResponse(jobs=jobs)

    async def _whole(self, act: Coroutine[Any, Any, _Answer]) -> _Answer:
        """Does it all even when the caller goes away meanwhile: what is in the database has to be set in motion."""
        task = asyncio.create_task(act)
        self._acts.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._acts.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may not be there to hear of it

    async def GetJob(self, request: scheduler_pb2.GetJobRequest, context: Context) -> scheduler_pb2.GetJobResponse:
        return scheduler_pb2.GetJobResponse(job=self._snapshot(await self._record(request.job_id)))

    async def ListJobs(
        self, request: scheduler_pb2.ListJobsRequest, context: Context
    ) -> scheduler_pb2.ListJobsResponse:
        if request.page_token and not request.page_token.isdigit():
            raise BadPageToken(f"'{request.page_token}' is no page token; begin again without one.")
        before = int(request.page_token or 2**62)
        count = min(_PAGE, request.page_size or _PAGE)
        await self._found_begun()
        labels = tables.Labels(request.workspace, request.pipeline_run, request.experiment)
        ask = partial(tables.list_jobs, before=before, count=count, labels=labels)
        rows = await asyncio.wrap_future(self._store.read(ask))
        response = scheduler_pb2.ListJobsResponse()
        size = 0
        for row in rows:
            job = self._snapshot(self._live(row))
            job.spec.ClearField("environment_variables")
            job.spec.ClearField("arguments")
            size += job.ByteSize()
            if response.jobs and size > _PAGE_BYTES:
                return response
            response.jobs.append(job)
            response.next_page_token = str(row.number)
        if len(rows) < count:
            response.ClearField("next_page_token")
        return response

    async def WatchJob(
        self, request: scheduler_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[scheduler_pb2.WatchJobResponse]:
        record = await self._record(request.job_id)
        while True:
            version, since = record.version, asyncio.get_running_loop().time()
            yield scheduler_pb2.WatchJobResponse(job=self._snapshot(record))
            if record.is_final and record.state is None:
                return
            await record.next_told(version, since)
            if record.state is None and not record.is_final:  # it was looked at before it was set in motion
                record = await self._record(request.job_id)

    async def CancelJob(
        self, request: scheduler_pb2.CancelJobRequest, context: Context
    ) -> scheduler_pb2.CancelJobResponse:
        record = await self._record(request.job_id)
        await self._whole(self._cancel(record))
        return scheduler_pb2.CancelJobResponse(job=self._snapshot(record))

    async def _cancel(self, record: JobRecord) -> None:
        """Durable before it is told; meanwhile the job may have begun to write its output."""
        _check_cancellable(record)
        if await self._anteroom.cancel(record.row.job_id):
            return
        if record.state is not None and record.state.state in ACTIVE:
            await asyncio.wrap_future(self._store.write(tables.cancel(record.row.number)))
            _check_cancellable(record)
            self._dispatcher.tell(JobCancelled(record.row.job_id))

    async def ResumeJob(
        self, request: scheduler_pb2.ResumeJobRequest, context: Context
    ) -> scheduler_pb2.ResumeJobResponse:
        return scheduler_pb2.ResumeJobResponse(job=self._snapshot(await self._whole(self._resume(request))))

    async def _resume(self, request: scheduler_pb2.ResumeJobRequest) -> JobRecord:
        job_id = request.job_id
        async with self._housekeeping.door:
            record = await self._record(job_id)
            self._resumed = {each: by for each, by in self._resumed.items() if self._moving(each)}
            if self._resumed.get(job_id) == request:  # two resumes at once are one
                return record
            spec = resumed_spec(record.spec, request)
            await self._check_resumable(record, spec, request.failed)
            self._admission.check_attended(request.attended)
            await self._publisher.check_artifacts(spec)
            await self._publisher.reserve(job_id, spec, resumed=True)
            await self._reopen(record.row, spec, request.failed)
            self._resumed[job_id] = request
            return self._moving(job_id) or record

    async def _check_resumable(self, record: JobRecord, spec: job_pb2.JobSpec, failed: bool) -> None:
        row = record.row
        counts = await self._counted(row.job_id, spec)
        outcomes = await asyncio.wrap_future(self._store.read(partial(reopening.failed_outcomes, number=row.number)))
        state = record.state.state if record.state is not None else State(row.state)
        why = reopening.refusal(row.job_id, state, limits_of(spec), counts, outcomes, failed)
        if not why and not row.let_in and (failure := await self._anteroom.failure(row.number)):
            why = f"Job {row.job_id} would fail again at once: {failure.message} Resume that one first."
        if why:
            raise JobNotResumable(why)

    async def _reopen(self, row: tables.JobRow, spec: job_pb2.JobSpec, failed: bool) -> None:
        """Writes all that changes at once, then sets the job in motion."""
        waits = not row.let_in and spec.after
        row.state, row.round, row.cancelled = int(State.WAITING if waits else State.PENDING), row.round + 1, 0
        row.spec, row.ended, row.error, row.progress = spec.SerializeToString(), None, None, None
        row.output_path = row.report_path = ""
        row.first_failure = None if failed else row.first_failure
        reopened = tables.reopen_failed(row.number) if failed else []
        if spec.source_digest != job_pb2.JobSpec.FromString(row.submitted_spec).source_digest:
            reopened += reuse.forget(row.number)
        await asyncio.wrap_future(self._store.write([*tables.set_state(row), *reopened]))
        if not row.let_in:
            self._anteroom.enter(JobRecord(row, None))
            return
        self._dispatcher.start(JobRecord(row, None), await self._counted(row.job_id, spec))

    async def _counted(self, job_id: str, spec: job_pb2.JobSpec) -> Counts:
        count = partial(counted, job_id=job_id, run_max_try=spec.run_max_try)
        return await asyncio.wrap_future(self._store.read(count))

    async def DeleteJob(
        self, request: scheduler_pb2.DeleteJobRequest, context: Context
    ) -> scheduler_pb2.DeleteJobResponse:
        await self._found_begun()
        await self._whole(self._housekeeping.forget(request.job_id))
        return scheduler_pb2.DeleteJobResponse()

    async def ListNodes(
        self, request: scheduler_pb2.ListNodesRequest, context: Context
    ) -> scheduler_pb2.ListNodesResponse:
        active = self._dispatcher.active

        def jobs_of(node_id: str) -> list[str]:
            return [job_id for job_id, job in active.items() if node_id in job.streams]

        return scheduler_pb2.ListNodesResponse(nodes=self._dispatcher.nodes.protos(jobs_of))

    async def GetMesh(self, request: scheduler_pb2.GetMeshRequest, context: Context) -> scheduler_pb2.GetMeshResponse:
        if not self._dispatcher.storage_address:
            raise MeshUnreachable(f"The scheduler has not reached storage at {self._config.storage} yet.")
        return scheduler_pb2.GetMeshResponse(
            version=VERSION,
            storage_address=self._dispatcher.storage_address,
            embedded=self._config.embedded,
        )

    async def CreateComputeTarget(
        self, request: scheduler_pb2.CreateComputeTargetRequest, context: Context
    ) -> scheduler_pb2.CreateComputeTargetResponse:
        await self._found_begun()
        target = await self._whole(self._targets.create(request.target))
        return scheduler_pb2.CreateComputeTargetResponse(target=target)

    async def GetComputeTarget(
        self, request: scheduler_pb2.GetComputeTargetRequest, context: Context
    ) -> scheduler_pb2.GetComputeTargetResponse:
        await self._found_begun()
        return scheduler_pb2.GetComputeTargetResponse(target=self._targets.get(request.name))

    async def ListComputeTargets(
        self, request: scheduler_pb2.ListComputeTargetsRequest, context: Context
    ) -> scheduler_pb2.ListComputeTargetsResponse:
        await self._found_begun()
        return scheduler_pb2.ListComputeTargetsResponse(targets=self._targets.all())

    async def DeleteComputeTarget(
        self, request: scheduler_pb2.DeleteComputeTargetRequest, context: Context
    ) -> scheduler_pb2.DeleteComputeTargetResponse:
        await self._whole(self._targets.delete(request.name))
        return scheduler_pb2.DeleteComputeTargetResponse()

    async def Heartbeat(
        self, request: scheduler_pb2.HeartbeatRequest, context: Context
    ) -> scheduler_pb2.HeartbeatResponse:
        dedicated = self._targets.is_local(request.compute_target)
        await self._dispatcher.nodes.beat(request, dedicated=dedicated)
        return scheduler_pb2.HeartbeatResponse(
            storage_address=self._dispatcher.storage_address,
            heartbeat_interval=self._config.heartbeat_interval,
            lease=self._config.lease,
        )

    # ---- looking ----

    async def _found_begun(self) -> None:
        """Waits, within limits, until all jobs are taken up: before that none can be judged by its row."""
        try:
            await asyncio.wait_for(self._begun.wait(), _PATIENCE)
        except TimeoutError:
            raise MeshUnreachable(f"The scheduler has not reached storage at {self._config.storage} yet.") from None

    async def _find(self, job_id: str) -> JobRecord | None:
        await self._found_begun()
        record = self._moving(job_id)
        if record is not None:
            return record
        row = await asyncio.wrap_future(self._store.read(partial(tables.find_job, job_id=job_id)))
        return self._live(row) if row is not None else None

    async def _record(self, job_id: str) -> JobRecord:
        record = await self._find(job_id)
        if record is None:
            raise NoJob(f"There is no job '{job_id}'; `batchmesh jobs` lists those there are.")
        return record

    def _moving(self, job_id: str) -> JobRecord | None:
        """A job that has not ended."""
        job = self._dispatcher.active.get(job_id)
        return job.record if job is not None else self._anteroom.get(job_id)

    def _live(self, row: tables.JobRow) -> JobRecord:
        return self._moving(row.job_id) or JobRecord(row, None)

    def _snapshot(self, record: JobRecord) -> job_pb2.Job:
        target = record.spec.compute_target
        without_nodes = self._targets.without_nodes(target) if target else _WITHOUT_NODES[self._config.embedded]
        return record.snapshot(self._dispatcher.nodes.has_any_for(target), without_nodes)


def _check_cancellable(record: JobRecord) -> None:
    job_id = record.row.job_id
    state = record.state.state if record.state is not None else State(record.row.state)
    if state is State.COMMITTING:
        raise JobCommitting(f"Job {job_id} is writing its output and will succeed; it cannot be cancelled.")
    if state in (State.SUCCEEDED, State.FAILED, State.LOST):
        raise JobEnded(f"Job {job_id} has ended as {state.name}; there is nothing to cancel.")
