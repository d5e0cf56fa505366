"""The nouns that the scheduler decides about: limits, counts, failures, mini-batches, pools."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field


class FailureKind(enum.IntEnum):
    """Numbers as in Failure.Kind of job.proto; a unit test holds the two together."""

    RUN_RAISED = 1
    RUN_TIMEOUT = 2
    BAD_RETURN = 3
    WORKER_CRASHED = 4
    READ_FAILED = 5
    INIT_FAILED = 6
    BAD_RESULT = 7
    UNREADABLE_FILE = 8
    NODE_LOST = 9
    ENVIRONMENT = 10
    THRESHOLD = 11
    STALLED = 12
    PLANNING_FAILED = 13
    OUTPUT_FAILED = 14
    NOT_STARTED = 15
    MESH_ENDED = 16


#: Ends of an attempt that are nobody's fault: the mini-batch runs again and no try is counted.
NO_TRY = frozenset({FailureKind.NODE_LOST, FailureKind.NOT_STARTED})


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed user work: one sentence, and the user's traceback where there is one."""

    kind: FailureKind
    message: str
    traceback: str = ""


class State(enum.IntEnum):
    """Numbers as in Job.State of job.proto."""

    PENDING = 1
    RUNNING = 2
    COMMITTING = 3
    ENDING = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    LOST = 8


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST})


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job bears and how it is spread. -1 bears everything; 0 nodes means all there are."""

    run_max_try: int = 3
    error_threshold: int = 0
    allowed_failed_count: int = -1
    allowed_failed_percent: float = 100.0
    node_count: int = 0
    #: Seconds without an attempt that ended, while one is open.
    progress_timeout: float = 270.0
    #: Seconds from the job's start to its first planned mini-batch.
    first_timeout: float = 600.0
    #: append_row: a job in which no item succeeded fails.
    needs_rows: bool = True


@dataclass(slots=True)
class Counts:
    """What has become of a job's mini-batches and items; the same fields as Progress in job.proto."""

    planned_mini_batches: int = 0
    planned_items: int = 0
    planning_ended: bool = False
    succeeded_mini_batches: int = 0
    failed_mini_batches: int = 0
    unreadable_mini_batches: int = 0
    succeeded_items: int = 0
    failed_items: int = 0
    rows: int = 0
    retried_attempts: int = 0

    @property
    def settled(self) -> int:
        """Mini-batches of which nothing more is to come."""
        return self.succeeded_mini_batches + self.failed_mini_batches + self.unreadable_mini_batches


@dataclass(slots=True)
class MiniBatch:
    """One open mini-batch: its place in the job, its items, and the tries that have failed so far."""

    index: int
    items: int
    tries: int = 0


class PoolPhase(enum.IntEnum):
    """Numbers as in PoolStatus.Phase of agent.proto; OPENING is ours, before the agent has said anything."""

    OPENING = 0
    PREPARING = 1
    WAITING_FOR_SLOTS = 2
    WARMING = 3
    READY = 4
    FAILED = 5


@dataclass(slots=True)
class Pool:
    """The workers of one job on one node, as far as the scheduler knows."""

    phase: PoolPhase = PoolPhase.OPENING
    workers: int = 0
    credits: int = 0
    #: Attempts dispatched to this pool and not ended.
    open: int = 0


@dataclass(slots=True)
class Running:
    """An attempt that is out: which mini-batch, and where."""

    mini_batch: MiniBatch
    node_id: str


@dataclass(slots=True)
class JobState:
    """All that the Machine knows of one job. Open mini-batches are a window; the plan itself lies in the store."""

    job_id: str
    limits: Limits
    since: float
    state: State = State.PENDING
    counts: Counts = field(default_factory=Counts)
    #: Planned, not dispatched; a window of the plan in its order, with what comes back at its front.
    waiting: deque[MiniBatch] = field(default_factory=deque)
    running: dict[int, Running] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    suspects: dict[str, Failure] = field(default_factory=dict)
    first_failure: Failure | None = None
    error: Failure | None = None
    cancelled: bool = False
    last_progress: float = 0.0
