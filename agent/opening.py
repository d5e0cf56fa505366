"""What the scheduler asks for with OpenPool, as this node understands it: argv, limits, pool, what workers need."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchmesh.python_environment import PythonEnvironment
from batchmesh.v1 import job_pb2

from . import frames
from .interpreter import LIBRARIES
from .limits import Limits
from .pool import Key
from .supplies import Model, SideInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchmesh.v1 import agent_pb2

_RUN_INVOCATION_TIMEOUT = 60.0
_TASK_OVERHEAD_TIMEOUT = 30.0
_RUN_MAX_TRY = 3
_RUN_ID = "AZUREML_RUN_ID"


class Opening(NamedTuple):
    """One job's wishes."""

    job_id: str
    #: Tells it from a job of the same id that was deleted, and from itself before it was resumed.
    life: int
    storage_address: str
    #: Namespace of the datastores, datasets and models that the job names.
    workspace: str
    #: What the workers run in; None is the agent's own Python.
    environment: PythonEnvironment | None
    #: What they need there to read the input and to write the output.
    libraries: tuple[str, ...]
    #: Workers wanted on this node.
    processes: int
    #: Results are counted only; the script's --output is the job's, and the pool ends with it.
    summary_only: bool
    key: Key
    limits: Limits
    #: Environment variables that tell workers of their job.
    variables: Mapping[str, str]
    #: The JOB message for its workers.
    job_message: bytes


def understood(opened: agent_pb2.OpenPool, slots: int, max_result_bytes: int) -> Opening:
    """`slots` are the workers of a job that names no number, `max_result_bytes` is the bound of one result."""
    spec = opened.spec
    summary_only = spec.output_action == job_pb2.OUTPUT_ACTION_SUMMARY_ONLY
    variables = _variables(opened.job_id, spec)
    processes = opened.processes or slots
    return Opening(
        job_id=opened.job_id,
        life=opened.life,
        storage_address=opened.storage_address,
        workspace=spec.workspace or "default",
        environment=_environment(spec.environment) if spec.HasField("environment") else None,
        libraries=LIBRARIES if _is_tabular(spec) else (),
        processes=processes,
        summary_only=summary_only,
        key=_pool_key(spec, spec.output if summary_only else "", processes),
        limits=_limits(spec),
        variables=variables,
        job_message=_job_message(variables, spec, max_result_bytes),
    )


def _environment(wanted: job_pb2.Environment) -> PythonEnvironment:
    return PythonEnvironment(wanted.name, tuple(wanted.requirements), wanted.interpreter_path, wanted.user_managed)


def _is_tabular(spec: job_pb2.JobSpec) -> bool:
    """Whether rows are read from tables, or typed columns are written."""
    if _reads_tables(spec):
        return True
    writes = spec.output_action != job_pb2.OUTPUT_ACTION_SUMMARY_ONLY
    return writes and spec.append_row_file_name.lower().endswith((".csv", ".parquet"))


def _reads_tables(spec: job_pb2.JobSpec) -> bool:
    return spec.input_kind not in (job_pb2.INPUT_KIND_UNSPECIFIED, job_pb2.INPUT_KIND_FILES)


def _variables(job_id: str, spec: job_pb2.JobSpec) -> dict[str, str]:
    """What scripts read of their job; but for its id, what the user says goes."""
    of_job = {
        "AZUREML_ROOT_RUN_ID": spec.pipeline_run or job_id,
        "AZUREML_ARM_WORKSPACE_NAME": spec.workspace or "default",
        "AZUREML_ARM_PROJECT_NAME": spec.experiment,
    }
    return {**{name: of_job[name] for name in of_job.keys() - set(spec.environment_variables)}, _RUN_ID: job_id}


def _job_message(variables: Mapping[str, str], spec: job_pb2.JobSpec, max_result_bytes: int) -> bytes:
    return frames.json_message(
        frames.JOB,
        {
            "variables": dict(variables),
            "append_row": spec.output_action != job_pb2.OUTPUT_ACTION_SUMMARY_ONLY,
            "append_row_file_name": spec.append_row_file_name or "parallel_run_step.txt",
            "dataframe_header": spec.append_row_dataframe_header,
            "to_csv_json": spec.dataframe_to_csv_json,
            "max_result_bytes": max_result_bytes,
            "libraries": LIBRARIES if _reads_tables(spec) else (),
        },
    )


def _limits(spec: job_pb2.JobSpec) -> Limits:
    """The spec's limits, or their defaults."""
    return Limits(
        spec.run_invocation_timeout if spec.HasField("run_invocation_timeout") else _RUN_INVOCATION_TIMEOUT,
        spec.task_overhead_timeout if spec.HasField("task_overhead_timeout") else _TASK_OVERHEAD_TIMEOUT,
    )


def _pool_key(spec: job_pb2.JobSpec, output: str, processes: int) -> Key:
    """`output` is the folder of a summary_only job, else empty; `processes` the workers wanted on this node."""
    environment = sorted(item for item in spec.environment_variables.items() if item[0] != _RUN_ID)
    return Key(
        source_digest=spec.source_digest,
        models=tuple(Model(each.name, each.version, each.digest, each.file) for each in spec.models),
        side_inputs=tuple(SideInput(each.name, each.digest, each.file, each.reference) for each in spec.side_inputs),
        entry_script=spec.entry_script,
        arguments=(*_own_flags(spec, processes), *spec.arguments),
        environment=tuple(environment),
        logging_level=spec.logging_level or "INFO",
        output=output,
    )


def _own_flags(spec: job_pb2.JobSpec, processes: int) -> tuple[str, ...]:
    """batchmesh's own flags as ParallelRunStep names them, --output aside; they stand before the user's arguments."""
    bound = _limits(spec)
    flags = {
        "--mini_batch_size": spec.mini_batch_size or "10",
        "--error_threshold": spec.error_threshold,
        "--process_count_per_node": processes,
        "--run_invocation_timeout": f"{bound.run_invocation_timeout:g}",
        "--run_max_try": spec.run_max_try if spec.HasField("run_max_try") else _RUN_MAX_TRY,
        "--task_overhead_timeout": f"{bound.task_overhead_timeout:g}",
        "--logging_level": spec.logging_level or "INFO",
    }
    return tuple(str(each) for flag in flags.items() for each in flag)
