"""The Python client of a mesh: synchronous, typed, and the only place in front where messages are built and read.

submit: Submission ──pack──▶ WriteArtifact ──▶ storage
                   ──spec──▶ SubmitJob ──────▶ scheduler ──WatchJob──▶ whole job states
read_output, read_log: ReadOutput, ReadLog ◀── storage
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from datetime import UTC
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import grpc

from batchmesh import job as values
from batchmesh.address import check_address
from batchmesh.calls import CHANNEL_OPTIONS, PIECE, UNARY_DEADLINE, is_transient, retried
from batchmesh.errors import JobNotResumable, MeshUnreachable, NoJob, SpecRefused
from batchmesh.script import check_script
from batchmesh.source import Source, pack
from batchmesh.status import from_rpc_error
from batchmesh.submission import Path, Settings, Submission
from batchmesh.v1 import (
    job_pb2,
    scheduler_pb2,
    scheduler_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from typing import Unpack

    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from batchmesh.errors import BatchmeshError
    from batchmesh.home import Membership
    from batchmesh.source import Archive

    _Judge = Callable[[BatchmeshError], Any]

#: Seconds for which a call is made again while nobody answers: of a mesh that has never answered, and of one that has,
#: or is known to stand, whose scheduler is probably being started again.
FIRST_PATIENCE, PATIENCE = 5.0, 30.0
#: Seconds that one WatchJob stream lives; then it is opened anew, so that a silent one is noticed.
_STREAM_SECONDS = 60.0
#: Seconds for the bytes of one artifact, output or log.
_TRANSFER_SECONDS = 3600.0


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
        self._address = check_address(address) if address is not None else None
        self._membership = membership
        self._channels: list[grpc.Channel] = []
        self._patience = FIRST_PATIENCE if membership is None else PATIENCE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        with pack(submission.source) as archive:
            spec = _spec_to_proto(dataclasses.replace(submission.spec, source_digest=archive.digest))
            self._upload(archive)
        request = scheduler_pb2.SubmitJobRequest(job_id=job_id or new_job_id(), spec=spec, attended=attended)
        return _job(self._call(self._scheduler.SubmitJob, request).job)

    def get(self, job_id: str) -> values.Job:
        """The job as it stands. Errors: NoJob."""
        return _job(self._call(self._scheduler.GetJob, scheduler_pb2.GetJobRequest(job_id=job_id)).job)

    def list(self) -> Iterator[values.Job]:
        """All jobs, the newest first, without the environment variables and arguments of their specs."""
        token = ""
        while True:
            page = self._call(self._scheduler.ListJobs, scheduler_pb2.ListJobsRequest(page_token=token))
            yield from map(_job, page.jobs)
            token = page.next_page_token
            if not token:
                return

    def watch(self, job_id: str, *, patience: float = 60.0) -> Iterator[values.Job]:
        """The whole state at once, after each change, and every few seconds without one; ends after a final state.

        A broken connection is opened again; after `patience` seconds without an answer, or as soon as an embedded mesh
        has ended: MeshUnreachable. Errors: NoJob.
        """
        answered = time.monotonic()
        pause = 0.05
        while True:
            call = self._scheduler.WatchJob(
                scheduler_pb2.WatchJobRequest(job_id=job_id), timeout=min(patience, _STREAM_SECONDS)
            )
            try:
                for response in call:
                    answered, pause = time.monotonic(), 0.05
                    job = _job(response.job)
                    yield job
                    if job.state.is_final:
                        return
            except grpc.RpcError as error:
                self._check_mesh_stands()
                if not is_transient(error) or time.monotonic() - answered > patience:
                    raise from_rpc_error(error, self._name) from None
            finally:
                call.cancel()
            if time.monotonic() - answered > patience:
                raise MeshUnreachable(f"{self._name} did not tell of {job_id} for {patience:.0f} seconds.")
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def cancel(self, job_id: str) -> values.Job:
        """Asks a job to end; `watch` tells when it has. Errors: NoJob, JobCommitting, JobEnded."""
        return _job(self._call(self._scheduler.CancelJob, scheduler_pb2.CancelJobRequest(job_id=job_id)).job)

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
            found = self._call(self._scheduler.GetJob, scheduler_pb2.GetJobRequest(job_id=job_id))
            if _job(found.job).state.is_final:
                raise refused
            return found

        return _job(self._call(self._scheduler.ResumeJob, request, heard_before).job)

    def delete(self, job_id: str) -> None:
        """Forgets a job that has ended, with its segments and logs; its output stays. Errors: NoJob, JobNotEnded."""

        def heard_before(refused: BatchmeshError) -> None:
            if not isinstance(refused, NoJob):
                raise refused

        self._call(self._scheduler.DeleteJob, scheduler_pb2.DeleteJobRequest(job_id=job_id), heard_before)

    # The mesh

    def nodes(self) -> tuple[values.Node, ...]:
        """The nodes that the scheduler knows, lost ones too."""
        return tuple(map(_node, self._call(self._scheduler.ListNodes, scheduler_pb2.ListNodesRequest()).nodes))

    def mesh(self) -> values.Mesh:
        """What mesh this is."""
        found = self._call(self._scheduler.GetMesh, scheduler_pb2.GetMeshRequest())
        return values.Mesh(found.version, found.storage_address, found.embedded)

    # Bytes

    def read_output(self, job_id: str) -> Iterator[bytes]:
        """The append_row file of a job that succeeded, in pieces of up to 1 MiB or so. Errors: NoOutput."""
        return self._pieces(self._storage.ReadOutput, storage_pb2.ReadOutputRequest(job_id=job_id))

    def logs(self, job_id: str) -> tuple[values.LogFile, ...]:
        """The logs that there are of a job; none if there is no such job."""
        found = self._call(self._storage.ListLogs, storage_pb2.ListLogsRequest(job_id=job_id))
        return tuple(values.LogFile(each.name, each.size) for each in found.logs)

    def read_log(self, job_id: str, name: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of one log from `offset` on, in pieces. Errors: NoLog."""
        request = storage_pb2.ReadLogRequest(job_id=job_id, name=name, offset=offset)
        return self._pieces(self._storage.ReadLog, request)

    def _send_source(self, job_id: str, folder: Path) -> str:
        """The digest of another source for that job, which storage has then."""
        entry = check_script(self.get(job_id).spec.entry_script, folder)
        with pack(Source(entry.root, entry.name)) as archive:
            self._upload(archive)
            return archive.digest

    def _upload(self, archive: Archive) -> None:
        found = self._call(self._storage.FindArtifacts, storage_pb2.FindArtifactsRequest(digest=[archive.digest]))
        if archive.digest not in found.digest:
            self._retried(lambda: self._storage.WriteArtifact(_artifact_pieces(archive), timeout=_TRANSFER_SECONDS))

    # Calls

    @cached_property
    def _scheduler(self) -> scheduler_pb2_grpc.SchedulerServiceStub:
        return scheduler_pb2_grpc.SchedulerServiceStub(self._open(self.address))

    @cached_property
    def _storage(self) -> storage_pb2_grpc.StorageServiceStub:
        return storage_pb2_grpc.StorageServiceStub(self._open(self.mesh().storage_address))

    @property
    def _name(self) -> str:
        return f"The mesh at {self.address}"

    def _open(self, address: str) -> grpc.Channel:
        channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._channels.append(channel)
        return channel

    def _call(self, method: Callable[..., Any], request: Message, heard_before: _Judge | None = None) -> Any:
        return self._retried(lambda: method(request, timeout=UNARY_DEADLINE), heard_before)

    def _retried(self, call: Callable[[], Any], heard_before: _Judge | None = None) -> Any:
        """The answer of a call that is made again when it was not answered.

        `heard_before` is asked when a call that had been made before is refused: the first one may have been heard, and
        its answer lost. It returns what to answer, or raises. An embedded mesh that has ended is not waited for.
        """
        unanswered = 0

        def attempt() -> Any:
            nonlocal unanswered
            try:
                return call()
            except grpc.RpcError as error:
                self._check_mesh_stands()
                unanswered += is_transient(error)
                raise

        try:
            answer = retried(self._patience)(attempt)()
        except grpc.RpcError as error:
            refused = from_rpc_error(error, self._name)
            if not unanswered or heard_before is None:
                raise refused from None
            answer = heard_before(refused)
        self._patience = PATIENCE
        return answer

    def _pieces(self, method: Callable[..., Any], request: Message) -> Iterator[bytes]:
        try:
            for response in method(request, timeout=_TRANSFER_SECONDS):
                yield response.data
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._name) from None

    def _check_mesh_stands(self) -> None:
        if self._membership is not None:
            self._membership.check()


def new_job_id() -> str:
    """An id for a job, made by its client so that submitting again is safe: job- and ten hex digits."""
    return f"job-{secrets.token_hex(5)}"


def _artifact_pieces(archive: Archive) -> Iterator[storage_pb2.WriteArtifactRequest]:
    archive.tar.seek(0)
    yield storage_pb2.WriteArtifactRequest(digest=archive.digest, data=archive.tar.read(PIECE))
    while data := archive.tar.read(PIECE):
        yield storage_pb2.WriteArtifactRequest(data=data)


def _spec_to_proto(spec: values.JobSpec) -> job_pb2.JobSpec:
    fields = {each.name: getattr(spec, each.name) for each in dataclasses.fields(spec)}
    kind = f"INPUT_KIND_{fields.pop('input_kind') or 'unspecified'}".upper()
    action = f"OUTPUT_ACTION_{fields.pop('output_action') or 'unspecified'}".upper()
    proto = job_pb2.JobSpec(input_kind=job_pb2.InputKind.Value(kind), output_action=job_pb2.OutputAction.Value(action))
    for name, value in fields.items():
        if value is not None:
            _set(proto, name, value)
    return proto


def _set(proto: job_pb2.JobSpec, name: str, value: Any) -> None:
    try:
        proto.MergeFrom(job_pb2.JobSpec(**{name: value}))
    except (TypeError, ValueError):
        sentence = f"{name} cannot be {value!r}: that is of the wrong type, or out of its range."
        raise SpecRefused(sentence, {name: sentence}) from None


def _spec(proto: job_pb2.JobSpec) -> values.JobSpec:
    fields = {each.name: _plain(proto, each.name) for each in dataclasses.fields(values.JobSpec)}
    fields["input_kind"] = _enum(job_pb2.InputKind, proto.input_kind, "INPUT_KIND_").lower()
    fields["output_action"] = _enum(job_pb2.OutputAction, proto.output_action, "OUTPUT_ACTION_").lower()
    for name in ("input_kind", "output_action"):
        fields[name] = "" if fields[name] == "unspecified" else fields[name]
    return values.JobSpec(**fields)


def _plain(proto: job_pb2.JobSpec, name: str) -> Any:
    """A field as a plain value: tuples for lists, dicts for maps, None for an optional one that is absent."""
    field = proto.DESCRIPTOR.fields_by_name[name]
    value = getattr(proto, name)
    if name in ("environment_variables", "csv_types"):
        return dict(value)
    if name in ("arguments", "inputs"):
        return tuple(value)
    return None if field.has_presence and not proto.HasField(name) else value  # type: ignore[arg-type]


def _job(proto: job_pb2.Job) -> values.Job:
    return values.Job(
        job_id=proto.job_id,
        spec=_spec(proto.spec),
        state=values.JobState(_enum(job_pb2.Job.State, proto.state, "STATE_")),
        waiting_for=proto.waiting_for,
        error=_failure(proto.error) if proto.HasField("error") else None,
        first_failure=_failure(proto.first_failure) if proto.HasField("first_failure") else None,
        progress=_progress(proto.progress),
        submitted=_time(proto.submitted),
        started=_time(proto.started),
        ended=_time(proto.ended),
        output_path=proto.output_path,
        report_path=proto.report_path,
        version=proto.version,
    )


def _progress(proto: job_pb2.Progress) -> values.Progress:
    return values.Progress(**{each.name: getattr(proto, each.name) for each in dataclasses.fields(values.Progress)})


def _failure(proto: job_pb2.Failure) -> values.Failure:
    return values.Failure(_enum(job_pb2.Failure.Kind, proto.kind, "KIND_"), proto.message, proto.traceback)


def _node(proto: scheduler_pb2.Node) -> values.Node:
    return values.Node(
        node_id=proto.node_id,
        address=proto.address,
        slots=proto.slots,
        workers=proto.workers,
        state=values.NodeState(_enum(scheduler_pb2.Node.State, proto.state, "STATE_")),
        joined=_time(proto.joined),
        last_heartbeat=_time(proto.last_heartbeat),
        job_ids=tuple(proto.job_ids),
    )


def _enum(kind: Any, number: int, prefix: str) -> str:
    """The name of an enum's value without its prefix; UNSPECIFIED for one that a newer mesh knows and we do not."""
    try:
        return str(kind.Name(number)).removeprefix(prefix)
    except ValueError:
        return "UNSPECIFIED"


def _time(proto: Timestamp) -> datetime | None:
    return proto.ToDatetime(tzinfo=UTC) if proto.seconds or proto.nanos else None
