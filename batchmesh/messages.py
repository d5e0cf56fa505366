"""Between messages and values: what a client hands in as a JobSpec, and what it is told of jobs and nodes."""

from __future__ import annotations

import dataclasses
from datetime import UTC
from typing import TYPE_CHECKING, Any

from batchmesh import job as values
from batchmesh.errors import SpecRefused
from batchmesh.python_environment import PythonEnvironment
from batchmesh.v1 import job_pb2, scheduler_pb2

if TYPE_CHECKING:
    from datetime import datetime

    from google.protobuf.timestamp_pb2 import Timestamp


def spec_to_proto(spec: values.JobSpec) -> job_pb2.JobSpec:
    fields = {each.name: getattr(spec, each.name) for each in dataclasses.fields(spec)}
    kind = f"INPUT_KIND_{fields.pop('input_kind') or 'unspecified'}".upper()
    action = f"OUTPUT_ACTION_{fields.pop('output_action') or 'unspecified'}".upper()
    proto = job_pb2.JobSpec(input_kind=job_pb2.InputKind.Value(kind), output_action=job_pb2.OutputAction.Value(action))
    for name, value in fields.items():
        if value is not None:
            _set(proto, name, _as_message(value))
    return proto


def _as_message(value: Any) -> Any:
    """What the constructor of a message takes: fields for a value that is a message there."""
    if isinstance(value, tuple):
        return [_as_message(each) for each in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


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
    if name in _VALUES and field.is_repeated:
        return tuple(_value(_VALUES[name], each) for each in value)
    if field.is_repeated:
        return tuple(value)
    if field.has_presence and not proto.HasField(name):  # type: ignore[arg-type]
        return None
    return _value(_VALUES[name], value) if name in _VALUES else value


#: Fields of a spec that are messages themselves.
_VALUES = {"environment": PythonEnvironment, "models": values.JobModel, "side_inputs": values.SideInput}


def _value(kind: Any, proto: Any) -> Any:
    fields = {each.name: getattr(proto, each.name) for each in dataclasses.fields(kind)}
    return kind(**{name: value if isinstance(value, str | int) else tuple(value) for name, value in fields.items()})


def job_of(proto: job_pb2.Job) -> values.Job:
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
        reused_from=proto.reused_from,
        not_reused=proto.not_reused,
    )


def _progress(proto: job_pb2.Progress) -> values.Progress:
    return values.Progress(**{each.name: getattr(proto, each.name) for each in dataclasses.fields(values.Progress)})


def _failure(proto: job_pb2.Failure) -> values.Failure:
    return values.Failure(_enum(job_pb2.Failure.Kind, proto.kind, "KIND_"), proto.message, proto.traceback)


def node_of(proto: scheduler_pb2.Node) -> values.Node:
    return values.Node(
        node_id=proto.node_id,
        address=proto.address,
        slots=proto.slots,
        workers=proto.workers,
        state=values.NodeState(_enum(scheduler_pb2.Node.State, proto.state, "STATE_")),
        joined=_time(proto.joined),
        last_heartbeat=_time(proto.last_heartbeat),
        job_ids=tuple(proto.job_ids),
        compute_target=proto.compute_target,
    )


def _enum(kind: Any, number: int, prefix: str) -> str:
    """The name of an enum's value without its prefix; UNSPECIFIED for one that a newer mesh knows and we do not."""
    try:
        return str(kind.Name(number)).removeprefix(prefix)
    except ValueError:
        return "UNSPECIFIED"


def _time(proto: Timestamp) -> datetime | None:
    return proto.ToDatetime(tzinfo=UTC) if proto.seconds or proto.nanos else None
