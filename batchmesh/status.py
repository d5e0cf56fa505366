"""The one table between our errors and gRPC statuses, read in both directions.

service raises NoJob ──▶ NOT_FOUND + ErrorInfo(reason="NO_JOB") ──▶ client raises NoJob
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from batchmesh import errors

if TYPE_CHECKING:
    from collections.abc import Iterable

DOMAIN = "batchmesh"

_C = grpc.StatusCode
TABLE: dict[type[errors.BatchmeshError], tuple[grpc.StatusCode, str]] = {
    errors.SpecRefused: (_C.INVALID_ARGUMENT, "BAD_SPEC"),
    errors.InputRefused: (_C.INVALID_ARGUMENT, "INPUT_REFUSED"),
    errors.ScriptRefused: (_C.INVALID_ARGUMENT, "SCRIPT_REFUSED"),
    errors.OutputNotEmpty: (_C.FAILED_PRECONDITION, "OUTPUT_NOT_EMPTY"),
    errors.OutputReserved: (_C.ALREADY_EXISTS, "OUTPUT_RESERVED"),
    errors.OutputUnwritable: (_C.PERMISSION_DENIED, "OUTPUT_UNWRITABLE"),
    errors.OutputChanged: (_C.FAILED_PRECONDITION, "OUTPUT_CHANGED"),
    errors.NoJob: (_C.NOT_FOUND, "NO_JOB"),
    errors.JobExists: (_C.ALREADY_EXISTS, "JOB_EXISTS"),
    errors.JobCommitting: (_C.FAILED_PRECONDITION, "JOB_COMMITTING"),
    errors.JobEnded: (_C.FAILED_PRECONDITION, "JOB_ENDED"),
    errors.JobNotEnded: (_C.FAILED_PRECONDITION, "JOB_NOT_ENDED"),
    errors.JobNotResumable: (_C.FAILED_PRECONDITION, "JOB_NOT_RESUMABLE"),
    errors.MeshEmbedded: (_C.FAILED_PRECONDITION, "MESH_EMBEDDED"),
    errors.NoArtifact: (_C.NOT_FOUND, "NO_ARTIFACT"),
    errors.DigestMismatch: (_C.INVALID_ARGUMENT, "DIGEST_MISMATCH"),
    errors.NoOutput: (_C.NOT_FOUND, "NO_OUTPUT"),
    errors.NoLog: (_C.NOT_FOUND, "NO_LOG"),
    errors.BadName: (_C.INVALID_ARGUMENT, "BAD_NAME"),
    errors.BadEntry: (_C.INVALID_ARGUMENT, "BAD_ENTRY"),
    errors.NoEntry: (_C.NOT_FOUND, "NO_ENTRY"),
    errors.EntryExists: (_C.ALREADY_EXISTS, "ENTRY_EXISTS"),
    errors.PathTaken: (_C.ALREADY_EXISTS, "PATH_TAKEN"),
    errors.NoComputeTarget: (_C.NOT_FOUND, "NO_COMPUTE_TARGET"),
    errors.NoSupervisor: (_C.FAILED_PRECONDITION, "NO_SUPERVISOR"),
    errors.DatastoreFailed: (_C.INTERNAL, "DATASTORE_FAILED"),
    errors.BadPageToken: (_C.INVALID_ARGUMENT, "BAD_PAGE_TOKEN"),
    errors.Gap: (_C.OUT_OF_RANGE, "GAP"),
    errors.NodeDraining: (_C.FAILED_PRECONDITION, "NODE_DRAINING"),
    errors.StaleScheduler: (_C.FAILED_PRECONDITION, "STALE_SCHEDULER"),
    errors.NoPool: (_C.INVALID_ARGUMENT, "NO_POOL"),
    errors.CommitRunning: (_C.ABORTED, "COMMIT_RUNNING"),
    errors.CutOff: (_C.INVALID_ARGUMENT, "CUT_OFF"),
    errors.StorageBusy: (_C.RESOURCE_EXHAUSTED, "STORAGE_BUSY"),
    errors.DiskFull: (_C.RESOURCE_EXHAUSTED, "DISK_FULL"),
    errors.DiskFailing: (_C.INTERNAL, "DISK_FAILING"),
    errors.LogFull: (_C.RESOURCE_EXHAUSTED, "LOG_FULL"),
    errors.MeshUnreachable: (_C.UNAVAILABLE, "MESH_UNREACHABLE"),
    errors.DeadlineExceeded: (_C.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    errors.ServiceFailed: (_C.INTERNAL, "SERVICE_FAILED"),
    errors.Refused: (_C.INVALID_ARGUMENT, "REFUSED"),
    errors.BatchmeshError: (_C.UNKNOWN, "FAILED"),
}
_BY_REASON = {reason: kind for kind, (_, reason) in TABLE.items()}
#: What grpc.aio says of a stream whose connection broke while it wrote to it.
_BROKEN_WRITE = "Internal error from Core"


def to_status(error: errors.BatchmeshError) -> grpc.Status:
    """A rich status: code, sentence, ErrorInfo with the reason, and field violations where the error has them."""
    code, reason = TABLE[next(kind for kind in type(error).__mro__ if kind in TABLE)]
    details = [_packed(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))]
    if isinstance(error, errors.SpecRefused) and error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=sentence)
            for field, sentence in error.violations.items()
        ]
        details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    status: grpc.Status = rpc_status.to_status(
        status_pb2.Status(code=code.value[0], message=str(error), details=details)
    )
    return status


def from_rpc_error(error: grpc.RpcError, asked: str = "The mesh") -> errors.BatchmeshError:
    """The error that a service raised, or what the transport's own failure means. `asked` names who was called."""
    call = _as_call(error)
    for detail in _details(call):
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.reason in _BY_REASON:
            return _rebuilt(_BY_REASON[info.reason], call)
    if call.code() == _C.UNAVAILABLE or is_broken_write(error):
        return errors.MeshUnreachable(f"{asked} does not answer: {call.details()}.")
    if call.code() == _C.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(f"{asked} did not answer in time.")
    return errors.ServiceFailed(f"{asked} failed with {call.code().name}: {call.details()}")


def is_broken_write(error: grpc.RpcError) -> bool:
    """Whether a stream's connection broke under a write, which grpc.aio does not always call UNAVAILABLE."""
    call = _as_call(error)
    return call.code() == _C.INTERNAL and call.details() == _BROKEN_WRITE


def _rebuilt(kind: type[errors.BatchmeshError], call: grpc.Call) -> errors.BatchmeshError:
    message = call.details() or ""
    if not issubclass(kind, errors.SpecRefused):
        return kind(message)
    violations = {}
    for detail in _details(call):
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            violations = {each.field: each.description for each in bad.field_violations}
    return kind(message, violations)


def _details(call: grpc.Call) -> Iterable[any_pb2.Any]:
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            details: Iterable[any_pb2.Any] = status_pb2.Status.FromString(value).details
            return details
    return ()


def _as_call(error: grpc.RpcError) -> grpc.Call:
    assert hasattr(error, "code"), "an RpcError of a finished call is a Call"
    return error  # type: ignore[return-value]


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    detail = any_pb2.Any()
    detail.Pack(message)
    return detail
