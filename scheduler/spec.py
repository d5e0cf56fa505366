"""A job's spec: checked field by field, and completed with the defaults of the facts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batchmesh.data.size import check_syntax
from batchmesh.datastores.reference import parse
from batchmesh.errors import SpecRefused
from batchmesh.requirements import paths_in
from batchmesh.v1 import job_pb2
from batchmesh.version import VERSION

from . import supplies
from .model import Limits
from .planner import PlanRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchmesh.v1 import scheduler_pb2

_INT_MAX = 2**31 - 1
_MAX_TIMEOUT = 259_200
_DEFAULTS: dict[str, bool | int | float | str] = {
    "csv_header": "present",
    "append_row_file_name": "parallel_run_step.txt",
    "output_action": job_pb2.OUTPUT_ACTION_APPEND_ROW,
    "error_threshold": 0,
    "allowed_failed_count": -1,
    "allowed_failed_percent": 100.0,
    "run_invocation_timeout": 60.0,
    "run_max_try": 3,
    "task_overhead_timeout": 30.0,
    "first_task_creation_timeout": 600.0,
    "logging_level": "INFO",
    "isolate_failures": True,
    "workspace": "default",
}
KINDS = {
    job_pb2.INPUT_KIND_FILES: "files",
    job_pb2.INPUT_KIND_CSV: "csv",
    job_pb2.INPUT_KIND_PARQUET: "parquet",
    job_pb2.INPUT_KIND_JSONL: "jsonl",
}
KIND_NUMBERS = {name: number for number, name in KINDS.items()}
#: What the environment is called among the settings that an output depends on.
ENVIRONMENT = "the environment"
_JOB_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def check_job_id(job_id: str) -> None:
    if not _JOB_ID.fullmatch(job_id):
        raise SpecRefused(
            f"'{job_id}' is no job id; use 1 to 63 lower-case letters, digits and '-', not beginning with '-'.",
            {"job_id": "1 to 63 of a-z, 0-9 and '-'"},
        )


def completed(given: job_pb2.JobSpec) -> job_pb2.JobSpec:
    """The spec with each absent setting at its default; raises SpecRefused naming every field out of its range."""
    spec = job_pb2.JobSpec()
    spec.CopyFrom(given)
    for name, value in _DEFAULTS.items():
        absent = not spec.HasField(name) if _is_optional(name) else not getattr(spec, name)  # type: ignore[arg-type]
        if absent:
            setattr(spec, name, value)
    if not spec.HasField("progress_update_timeout"):
        spec.progress_update_timeout = _progress_timeout(spec)
    violations = _violations(given, spec)
    if violations:
        raise SpecRefused(" ".join(violations.values()), violations)
    return spec


def resumed_spec(spec: job_pb2.JobSpec, request: scheduler_pb2.ResumeJobRequest) -> job_pb2.JobSpec:
    """The spec with what a resume changes of it; raises SpecRefused as `completed` does."""
    changed = job_pb2.JobSpec()
    changed.CopyFrom(completed(spec))
    if changed.progress_update_timeout == _progress_timeout(changed):  # it goes with the others, as by default
        changed.ClearField("progress_update_timeout")
    for name in ("error_threshold", "run_invocation_timeout"):
        if request.HasField(name):
            setattr(changed, name, getattr(request, name))
    changed.source_digest = request.source_digest or changed.source_digest
    return completed(changed)


def limits_of(spec: job_pb2.JobSpec) -> Limits:
    """The settings that the Machine decides by."""
    return Limits(
        run_max_try=spec.run_max_try,
        error_threshold=spec.error_threshold,
        allowed_failed_count=spec.allowed_failed_count,
        allowed_failed_percent=spec.allowed_failed_percent,
        node_count=spec.node_count,
        progress_timeout=spec.progress_update_timeout,
        first_timeout=spec.first_task_creation_timeout,
        needs_rows=spec.output_action == job_pb2.OUTPUT_ACTION_APPEND_ROW,
        isolate_failures=spec.isolate_failures,
        backup_attempts=spec.backup_attempts if spec.HasField("backup_attempts") else None,
        compute_target=spec.compute_target,
    )


def plan_request(spec: job_pb2.JobSpec) -> PlanRequest:
    """What the planner needs of a spec."""
    return PlanRequest(
        inputs=tuple(spec.inputs),
        kind=KINDS.get(spec.input_kind),
        mini_batch_size=spec.mini_batch_size or None,
        csv_header=spec.csv_header,
        csv_types=dict(spec.csv_types),
        input_sizes=tuple(spec.input_sizes),
    )


def reuse_settings(spec: job_pb2.JobSpec, input_kind: int) -> dict[str, object]:
    """What the job's output depends on besides its input's files, each by the words that a difference is told in."""
    environment = spec.environment
    return {
        "the script's source": spec.source_digest,
        "the entry script": spec.entry_script,
        "the arguments": list(spec.arguments),
        ENVIRONMENT: [
            spec.HasField("environment"),
            list(environment.requirements),
            environment.interpreter_path,
            environment.user_managed,
        ],
        "the models": [[each.name, each.version, each.digest, each.file] for each in spec.models],
        "the side inputs": [[each.name, each.digest, each.file, each.reference] for each in spec.side_inputs],
        "the environment variables": dict(spec.environment_variables),
        "the mini-batch size": spec.mini_batch_size,
        "the inputs that are split together": list(spec.input_sizes),
        "the kind of the input": input_kind,
        "the csv settings": [spec.csv_header, dict(spec.csv_types)],
        "the settings of the output": [
            spec.output_action,
            spec.append_row_file_name,
            spec.append_row_dataframe_header,
            spec.dataframe_to_csv_json,
        ],
        "the version of batchmesh": VERSION.rpartition(".")[0],
    }


def _progress_timeout(spec: job_pb2.JobSpec) -> float:
    return 3 * (spec.run_invocation_timeout + spec.task_overhead_timeout)


def _is_optional(name: str) -> bool:
    return job_pb2.JobSpec.DESCRIPTOR.fields_by_name[name].has_presence


def _violations(given: job_pb2.JobSpec, spec: job_pb2.JobSpec) -> dict[str, str]:
    sentences = {name: rule(spec) for name, rule in _RULES.items()}
    for name in ("process_count_per_node", "node_count"):  # 0 stands for "all there are" only where nothing was said
        if given.HasField(name) and getattr(given, name) == 0:
            sentences[name] = f"{name} is 0; it must be at least 1."
    return {name: sentence for name, sentence in sentences.items() if sentence}


def _required(name: str) -> Callable[[job_pb2.JobSpec], str]:
    return lambda spec: "" if getattr(spec, name) else f"{name} is missing."


def _within(name: str, low: float, high: float) -> Callable[[job_pb2.JobSpec], str]:
    def rule(spec: job_pb2.JobSpec) -> str:
        value = getattr(spec, name)
        return "" if low <= value <= high else f"{name} is {value:g}; it must be from {low:g} to {high:g}."

    return rule


def _seconds(name: str) -> Callable[[job_pb2.JobSpec], str]:
    def rule(spec: job_pb2.JobSpec) -> str:
        value = getattr(spec, name)
        if 0 < value <= _MAX_TIMEOUT:
            return ""
        return f"{name} is {value:g}; it must be above 0 and at most {_MAX_TIMEOUT} seconds."

    return rule


def _one_of(name: str, *allowed: str) -> Callable[[job_pb2.JobSpec], str]:
    def rule(spec: job_pb2.JobSpec) -> str:
        value = getattr(spec, name)
        return "" if value in allowed else f"{name} is '{value}'; it must be one of {', '.join(allowed)}."

    return rule


def _file_name(spec: job_pb2.JobSpec) -> str:
    name = spec.append_row_file_name
    bad = sorted(set(name) & set('~"#%&*:<>?/\\{|}'))
    if bad:
        return f"append_row_file_name '{name}' may not have {' '.join(bad)}."
    if name.startswith(".") or name == "job_report":
        return (
            f"append_row_file_name may not be '{name}'; choose a name that neither begins with '.' nor is job_report."
        )
    return ""


def _output(spec: job_pb2.JobSpec) -> str:
    return _misplaced("output is", spec.output) if spec.output else "output is missing."


def _inputs(spec: job_pb2.JobSpec) -> str:
    if not spec.inputs:
        return "inputs is missing."
    return next(filter(None, (_misplaced("inputs has", path) for path in spec.inputs)), "")


def _misplaced(who: str, path: str) -> str:
    """The sentence for what is neither an absolute path nor a reference."""
    if path.startswith("/"):
        return ""
    try:
        reference = parse(path)
    except SpecRefused as error:
        return f"{who} a malformed reference: {error}"
    return "" if reference else f"{who} '{path}'; it must be an absolute path, or datastore://NAME/PATH."


def _environment(spec: job_pb2.JobSpec) -> str:
    wanted = spec.environment
    if wanted.user_managed and wanted.requirements:
        return (
            "environment is user_managed and has requirements; nothing is installed into an interpreter that is used "
            "as it is, so leave out one of the two."
        )
    if wanted.interpreter_path and not wanted.interpreter_path.startswith("/"):
        return f"environment has the interpreter '{wanted.interpreter_path}'; it must be an absolute path."
    return next(filter(None, map(_unfit, [wanted.interpreter_path, *wanted.requirements])), "")


def _unfit(line: str) -> str:
    """The sentence for what cannot be a line of a requirements.txt on each node."""
    if any(each in line for each in "\n\r\0"):
        return f"environment has {line!r}; a requirement is one line, and has no NUL."
    relative = [path for path in paths_in(line) if not path.startswith("/")]
    if not relative:
        return ""
    return (
        f"environment has the requirement '{line}', and {relative[0]} would be another file on each node; name a path "
        "that is absolute there, or put what it says in its place."
    )


def _input_sizes(spec: job_pb2.JobSpec) -> str:
    sizes = spec.input_sizes
    if not sizes or (min(sizes) > 0 and sum(sizes) == len(spec.inputs)):
        return ""
    return f"input_sizes is {list(sizes)}; it must count all {len(spec.inputs)} inputs, at least one each."


def _size(spec: job_pb2.JobSpec) -> str:
    if not spec.mini_batch_size:
        return ""
    try:
        check_syntax(spec.mini_batch_size)
    except ValueError as error:
        return str(error)
    return ""


_RULES: dict[str, Callable[[job_pb2.JobSpec], str]] = {
    "entry_script": _required("entry_script"),
    "source_digest": _required("source_digest"),
    "inputs": _inputs,
    "output": _output,
    "environment": _environment,
    "models": supplies.models,
    "side_inputs": supplies.side_inputs,
    "mini_batch_size": _size,
    "input_sizes": _input_sizes,
    "csv_header": _one_of("csv_header", "present", "absent"),
    "append_row_file_name": _file_name,
    "error_threshold": _within("error_threshold", -1, _INT_MAX),
    "allowed_failed_count": _within("allowed_failed_count", -1, _INT_MAX),
    "allowed_failed_percent": _within("allowed_failed_percent", 0, 100),
    "process_count_per_node": _within("process_count_per_node", 0, 4096),
    "node_count": _within("node_count", 0, 100_000),
    "run_max_try": _within("run_max_try", 1, 1000),
    "run_invocation_timeout": _seconds("run_invocation_timeout"),
    "task_overhead_timeout": _seconds("task_overhead_timeout"),
    "progress_update_timeout": _within("progress_update_timeout", 0.001, 10 * _MAX_TIMEOUT),
    "first_task_creation_timeout": _seconds("first_task_creation_timeout"),
    "logging_level": _one_of("logging_level", "DEBUG", "INFO", "WARNING"),
}
