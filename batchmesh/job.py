"""What a client knows of a job, a node and a mesh. Plain frozen values: no gRPC, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from batchmesh.python_environment import PythonEnvironment


class JobState(StrEnum):
    """Where a job stands. The first five go on; the last four are final."""

    UNSPECIFIED = "UNSPECIFIED"
    WAITING = "WAITING"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMMITTING = "COMMITTING"
    ENDING = "ENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes any more, unless the job is resumed."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.LOST)


class NodeState(StrEnum):
    """Whether a node takes work."""

    UNSPECIFIED = "UNSPECIFIED"
    READY = "READY"
    DRAINING = "DRAINING"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed user work. `kind` is e.g. RUN_RAISED or RUN_TIMEOUT; `traceback` is the user's, or empty."""

    kind: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of a job at one moment. The planned ones are final once `planning_ended`."""

    planned_mini_batches: int = 0
    planned_items: int = 0
    planning_ended: bool = False
    succeeded_mini_batches: int = 0
    failed_mini_batches: int = 0
    unreadable_mini_batches: int = 0
    running_mini_batches: int = 0
    succeeded_items: int = 0
    failed_items: int = 0
    rows: int = 0
    retried_attempts: int = 0
    nodes: int = 0
    workers: int = 0

    @property
    def ended_mini_batches(self) -> int:
        """Mini-batches that need no more work."""
        return self.succeeded_mini_batches + self.failed_mini_batches + self.unreadable_mini_batches

    @property
    def ended_items(self) -> int:
        """Items that are accounted for."""
        return self.succeeded_items + self.failed_items


@dataclass(frozen=True, slots=True)
class JobModel:
    """A model as a job uses it: resolved to its artifact. `file` is empty for a folder."""

    name: str
    version: int
    digest: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class SideInput:
    """What is on each node before its first mini-batch: an artifact (`digest`, `file`), or a datastore `reference`."""

    name: str
    digest: str = ""
    file: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything a job is. None, and empty text, take the mesh's default; see `Settings` for what each one means."""

    entry_script: str
    inputs: tuple[str, ...]
    output: str
    source_digest: str = ""
    arguments: tuple[str, ...] = ()
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    #: files, csv, parquet or jsonl; empty: told from the path or the first file.
    input_kind: str = ""
    mini_batch_size: str = ""
    csv_header: str = ""
    csv_types: Mapping[str, str] = field(default_factory=dict)
    #: append_row or summary_only; empty is append_row.
    output_action: str = ""
    append_row_file_name: str = ""
    overwrite: bool = False
    append_row_dataframe_header: bool = False
    dataframe_to_csv_json: str = ""
    error_threshold: int | None = None
    allowed_failed_count: int | None = None
    allowed_failed_percent: float | None = None
    process_count_per_node: int | None = None
    node_count: int | None = None
    run_invocation_timeout: float | None = None
    run_max_try: int | None = None
    task_overhead_timeout: float | None = None
    progress_update_timeout: float | None = None
    first_task_creation_timeout: float | None = None
    logging_level: str = ""
    isolate_failures: bool | None = None
    backup_attempts: bool | None = None
    #: Namespace of the datastores that it names; empty is "default".
    workspace: str = ""
    environment: PythonEnvironment | None = None
    models: tuple[JobModel, ...] = ()
    side_inputs: tuple[SideInput, ...] = ()
    #: Only its nodes serve the job; empty: all.
    compute_target: str = ""
    allow_reuse: bool = False
    #: Ids of jobs that have to succeed before this one is planned.
    after: tuple[str, ...] = ()
    pipeline_run: str = ""
    experiment: str = ""
    step_name: str = ""
    #: How many of `inputs`, one after the other, make up each input; empty: each is one.
    input_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """The whole state of a job at one moment."""

    job_id: str
    spec: JobSpec
    state: JobState
    #: Why it is not going faster; empty when all is well.
    waiting_for: str
    #: Why it failed.
    error: Failure | None
    #: The first failure of a mini-batch that counted a try, whatever became of the job.
    first_failure: Failure | None
    progress: Progress
    submitted: datetime | None
    started: datetime | None
    ended: datetime | None
    #: The append_row file, or the folder for summary_only; empty until the job has succeeded.
    output_path: str
    #: The folder of the report; empty until it is written.
    report_path: str
    #: Grows with each change of this job.
    version: int
    #: With allow_reuse: the job whose output this one has taken, or in one line why it ran all the same.
    reused_from: str = ""
    not_reused: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine's agent as the scheduler sees it."""

    node_id: str
    address: str
    slots: int
    workers: int
    state: NodeState
    joined: datetime | None
    last_heartbeat: datetime | None
    job_ids: tuple[str, ...]
    compute_target: str = ""


@dataclass(frozen=True, slots=True)
class Mesh:
    """What mesh answers. An embedded one ends with its last client."""

    version: str
    storage_address: str
    embedded: bool


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log of a job: slash-separated name and size in bytes."""

    name: str
    size: int
