"""The Python client of a mesh: synchronous, typed, and the only place in front where messages are built and read.

submit: Submission ──pack──▶ WriteArtifact ──▶ storage
                   ──spec──▶ SubmitJob ──────▶ scheduler ──WatchJob──▶ whole job states
read_output, read_log: ReadOutput, ReadLog ◀── storage
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from contextlib import closing
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

import grpc

from batchmesh import job as values
from batchmesh.belongings import sent
from batchmesh.calls import is_transient
from batchmesh.connection import Connection
from batchmesh.errors import JobNotResumable, MeshUnreachable, NoJob
from batchmesh.listening import heard
from batchmesh.messages import job_of, node_of, spec_to_proto
from batchmesh.script import check_script
from batchmesh.source import Source, pack
from batchmesh.status import from_rpc_error
from batchmesh.submission import Path, Settings, Submission
from batchmesh.v1 import scheduler_pb2, storage_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Unpack

    from batchmesh.catalog import Catalog
    from batchmesh.compute import ComputeTargets
    from batchmesh.errors import BatchmeshError
    from batchmesh.home import Membership

#: Seconds that one WatchJob stream lives; then it is opened anew, so that a silent one is noticed.
_STREAM_SECONDS = 60.0


class Client:
    """A connection to one mesh, closed by `with` or `close`.

    `Client("host:port")` calls that scheduler. `Client()` uses the mesh of the home (BATCHMESH_HOME, else ~/.batchmesh)
    and starts an embedded one if there is none, which ends with its last client. Each method raises a class of
    `batchmesh.errors`; MeshUnreachable when nobody answers.
    """

    def __init__(
        self, address: str | None = None, *, home: Path | None = None, membership: Membership | None = None
    ) -> None:
        """`membership` is one that the caller has begun; it is left by `close`."""
        if address is None and membership is None:
            from batchmesh.home import Home, Membership

            membership = Membership(Home.find(home))
            membership.begin()
        self._connection = Connection(address, membership)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the mesh; calls that are open end."""
        self._connection.close()

    @property
    def address(self) -> str:
        """Where the scheduler is called: host:port or unix:path. Waits for the home's mesh to be ready."""
        return self._connection.address

    @cached_property
    def catalog(self) -> Catalog:
        """The datasets, models, environments and datastores of each workspace."""
        from batchmesh.catalog import Catalog

        return Catalog(self._connection)

    @cached_property
    def compute_targets(self) -> ComputeTargets:
        """Nodes under a name: made, looked at, deleted."""
        from batchmesh.compute import ComputeTargets

        return ComputeTargets(self._connection)

    # Jobs

    def submit(
        self,
        script: Path,
        inputs: Path | Sequence[Path],
        output: Path,
        *,
        job_id: str | None = None,
        attended: bool = False,
        **settings: Unpack[Settings],
    ) -> values.Job:
        """Submits a job; see `Settings` for what each setting means. Safe to repeat with the same `job_id`.

        `attended`: the caller stays and watches; without it an embedded mesh, which ends with its last client, refuses.
        Errors: ScriptRefused, SpecRefused, InputRefused, OutputRefused, JobExists, MeshEmbedded.
        """
        return self.send(Submission.prepare(script, inputs, output, **settings), job_id=job_id, attended=attended)

    def send(self, submission: Submission, *, job_id: str | None = None, attended: bool = False) -> values.Job:
        """Submits what has been prepared. Errors: as `submit`."""
        request = self._request(job_id or new_job_id(), submission, attended)
        return job_of(self._connection.call(self._connection.scheduler.SubmitJob, request).job)

    def submit_many(self, jobs: Sequence[tuple[str, Submission]], *, attended: bool = False) -> tuple[values.Job, ...]:
        """Submits up to 100 jobs, each under its id: either all are accepted or none. They may come after one another.
        Safe to repeat.

        Errors: as `submit`, naming the job; SpecRefused for jobs in a circle.
        """
        request = scheduler_pb2.SubmitJobsRequest(jobs=[self._request(job_id, each, attended) for job_id, each in jobs])
        return tuple(map(job_of, self._connection.call(self._connection.scheduler.SubmitJobs, request).jobs))

    def _request(self, job_id: str, submission: Submission, attended: bool) -> scheduler_pb2.SubmitJobRequest:
        """With the source, and what goes with the job, in storage."""
        with pack(submission.source) as archive:
            spec = dataclasses.replace(self._resolved(submission.spec), source_digest=archive.digest)
            self._connection.upload(archive)
        if submission.belongings.any:
            spec = sent(spec, submission.belongings, self.catalog, self._connection)
        return scheduler_pb2.SubmitJobRequest(job_id=job_id, spec=spec_to_proto(spec), attended=attended)

    def _resolved(self, spec: values.JobSpec) -> values.JobSpec:
        """With what its datasets stand for."""
        if not any(each.startswith("dataset:") for each in spec.inputs):
            return spec
        from batchmesh.named_inputs import resolved

        return resolved(spec, self.catalog)

    def get(self, job_id: str) -> values.Job:
        """The job as it stands. Errors: NoJob."""
        return job_of(
            self._connection.call(self._connection.scheduler.GetJob, scheduler_pb2.GetJobRequest(job_id=job_id)).job
        )

    def list(self, *, workspace: str = "", pipeline_run: str = "", experiment: str = "") -> Iterator[values.Job]:
        """All jobs, or those with these labels, the newest first, without the environment variables and arguments of
        their specs."""
        request = scheduler_pb2.ListJobsRequest(workspace=workspace, pipeline_run=pipeline_run, experiment=experiment)
        while True:
            page = self._connection.call(self._connection.scheduler.ListJobs, request)
            yield from map(job_of, page.jobs)
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def watch(self, job_id: str, *, patience: float = 60.0) -> Iterator[values.Job]:
        """The whole state at once, after each change, and every few seconds without one; ends after a final state.

        A broken connection is opened again; after `patience` seconds without an answer, or as soon as an embedded mesh
        has ended: MeshUnreachable. Errors: NoJob.
        """
        request, seconds = scheduler_pb2.WatchJobRequest(job_id=job_id), min(patience, _STREAM_SECONDS)
        answered = time.monotonic()
        pause = 0.05
        while True:
            try:
                with closing(heard(partial(self._connection.scheduler.WatchJob, request, timeout=seconds))) as told:
                    for response in told:
                        answered, pause = time.monotonic(), 0.05
                        job = job_of(response.job)
                        yield job
                        if job.state.is_final:
                            return
            except grpc.RpcError as error:
                self._connection.check_mesh_stands()
                if not is_transient(error) or time.monotonic() - answered > patience:
                    raise from_rpc_error(error, self._connection.name) from None
            if time.monotonic() - answered > patience:
                raise MeshUnreachable(f"{self._connection.name} did not tell of {job_id} for {patience:.0f} seconds.")
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def cancel(self, job_id: str) -> values.Job:
        """Asks a job to end; `watch` tells when it has. Errors: NoJob, JobCommitting, JobEnded."""
        return job_of(
            self._connection.call(
                self._connection.scheduler.CancelJob, scheduler_pb2.CancelJobRequest(job_id=job_id)
            ).job
        )

    def resume(
        self,
        job_id: str,
        *,
        attended: bool = False,
        failed: bool = False,
        error_threshold: int | None = None,
        run_invocation_timeout: float | None = None,
        source_directory: Path | None = None,
    ) -> values.Job:
        """Goes on with a job that failed, was cancelled or lost: what is done stays done, and what failed for good
        stays failed. With `failed` that runs again, too, also of a job that succeeded.

        The other settings take the place of the job's own; `source_directory` holds its entry script under the same
        name.
        Errors: NoJob, JobNotResumable, ScriptRefused, SpecRefused, OutputRefused, MeshEmbedded.
        """
        request = scheduler_pb2.ResumeJobRequest(
            job_id=job_id,
            attended=attended,
            failed=failed,
            error_threshold=error_threshold,
            run_invocation_timeout=run_invocation_timeout,
            source_digest=self._send_source(job_id, source_directory) if source_directory is not None else "",
        )

        def heard_before(refused: BatchmeshError) -> Any:
            if not isinstance(refused, JobNotResumable):
                raise refused
            found = self._connection.call(self._connection.scheduler.GetJob, scheduler_pb2.GetJobRequest(job_id=job_id))
            if job_of(found.job).state.is_final:
                raise refused
            return found

        return job_of(self._connection.call(self._connection.scheduler.ResumeJob, request, heard_before).job)

    def delete(self, job_id: str) -> None:
        """Forgets a job that has ended, with its segments and logs; its output stays. Errors: NoJob, JobNotEnded."""

        def heard_before(refused: BatchmeshError) -> None:
            if not isinstance(refused, NoJob):
                raise refused

        self._connection.call(
            self._connection.scheduler.DeleteJob, scheduler_pb2.DeleteJobRequest(job_id=job_id), heard_before
        )

    # The mesh

    def nodes(self) -> tuple[values.Node, ...]:
        """The nodes that the scheduler knows, lost ones too."""
        return tuple(
            map(
                node_of,
                self._connection.call(self._connection.scheduler.ListNodes, scheduler_pb2.ListNodesRequest()).nodes,
            )
        )

    def mesh(self) -> values.Mesh:
        """What mesh this is."""
        found = self._connection.call(self._connection.scheduler.GetMesh, scheduler_pb2.GetMeshRequest())
        return values.Mesh(found.version, found.storage_address, found.embedded)

    # Bytes

    def read_output(self, job_id: str) -> Iterator[bytes]:
        """The append_row file of a job that succeeded, in pieces of up to 1 MiB or so. Errors: NoOutput."""
        request = storage_pb2.ReadOutputRequest(job_id=job_id)
        return (page.data for page in self._connection.pages(self._connection.storage.ReadOutput, request))

    def logs(self, job_id: str) -> tuple[values.LogFile, ...]:
        """The logs that there are of a job; none if there is no such job."""
        found = self._connection.call(self._connection.storage.ListLogs, storage_pb2.ListLogsRequest(job_id=job_id))
        return tuple(values.LogFile(each.name, each.size) for each in found.logs)

    def read_log(self, job_id: str, name: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of one log from `offset` on, in pieces. Errors: NoLog."""
        request = storage_pb2.ReadLogRequest(job_id=job_id, name=name, offset=offset)
        return (page.data for page in self._connection.pages(self._connection.storage.ReadLog, request))

    def read_artifact(self, digest: str) -> Iterator[bytes]:
        """What storage keeps under that SHA-256 (hex), in pieces. Errors: NoArtifact."""
        request = storage_pb2.ReadArtifactRequest(digest=digest)
        return (page.data for page in self._connection.pages(self._connection.storage.ReadArtifact, request))

    def _send_source(self, job_id: str, folder: Path) -> str:
        """The digest of another source for that job, which storage has then."""
        entry = check_script(self.get(job_id).spec.entry_script, folder)
        with pack(Source(entry.root, entry.name)) as archive:
            self._connection.upload(archive)
            return archive.digest


def new_job_id() -> str:
    """An id for a job, made by its client so that submitting again is safe: job- and ten hex digits."""
    return f"job-{secrets.token_hex(5)}"
