"""The nouns that the scheduler decides about: limits, counts, failures, mini-batches, pools."""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .isolation import Isolation


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
    OUT_OF_MEMORY = 17
    PREDECESSOR = 18


#: Failures of run() itself, or of a file that it was to get: a mini-batch that is out of tries by one of them is split
#: to find the bad items.
OF_RUN = frozenset(
    {
        FailureKind.RUN_RAISED,
        FailureKind.RUN_TIMEOUT,
        FailureKind.WORKER_CRASHED,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.UNREADABLE_FILE,
    }
)
#: Failures that have ended a worker by themselves.
CRASHES = frozenset({FailureKind.WORKER_CRASHED, FailureKind.OUT_OF_MEMORY})


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
    #: The jobs that it comes after have not ended. Never in the Machine, which hears of it once they have.
    WAITING = 9


ACTIVE = frozenset({State.PENDING, State.RUNNING})
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
    #: Split what run() has failed for good until the bad items stand alone.
    isolate_failures: bool = True
    #: Run what takes far longer than the others a second time. None: with more than one node, not for summary_only.
    backup_attempts: bool | None = None
    #: Only nodes of that compute target serve the job; empty: all that are not dedicated to one.
    compute_target: str = ""


@dataclass(frozen=True, slots=True)
class Belonging:
    """Which compute target a node is of, empty for none, and whether it serves only jobs that name that one."""

    compute_target: str = ""
    dedicated: bool = False

    def serves(self, wanted: str) -> bool:
        """Whether the node may serve a job of that compute target, or with "" one that names none."""
        return self.compute_target == wanted if wanted else not self.dedicated


NO_TARGET = Belonging()


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

    def take_back(self, lost: Counts) -> None:
        """Uncounts what was settled and has to run again."""
        self.succeeded_mini_batches -= lost.succeeded_mini_batches
        self.failed_mini_batches -= lost.failed_mini_batches
        self.succeeded_items -= lost.succeeded_items
        self.failed_items -= lost.failed_items
        self.rows -= lost.rows


@dataclass(slots=True)
class MiniBatch:
    """One open mini-batch, or one part of a mini-batch that is being split: the unit of dispatch.

    `tries` are those that have failed so far; `first` is the first item of the part, `level` how many rounds of the
    isolation came before it (0: it is no part).
    """

    index: int
    items: int
    tries: int = 0
    first: int = 0
    level: int = 0
    #: Times that a node was lost on which it may have been running.
    lost: int = 0
    #: It has ended a worker: nothing of it is run twice at once.
    crashed: bool = False
    #: The latest of its attempts whose end has been counted: a node that still holds that one, or one before, has
    #: nothing new to tell of it.
    ended: int = 0

    @property
    def part(self) -> int:
        """Tells the parts of one mini-batch from each other; 0 for the whole. As in Dispatch and Held."""
        return self.level << 40 | self.first


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
    #: Its stream broke and another one has not said yet what the node holds.
    adrift: bool = False
    #: Monotonic second before which its stream is not opened again, and how long it waits after the next break.
    again: float = 0.0
    backoff: float = 0.0
    #: Monotonic second at which the node has given up what was out, if no stream has reached it by then.
    lapses: float = 0.0
    #: Why its results cannot be stored at present; empty when they can.
    held_up: str = ""


@dataclass(slots=True)
class Running:
    """An attempt that is out: which mini-batch, where, and since which monotonic second."""

    mini_batch: MiniBatch
    node_id: str
    since: float
    #: It has, or had, a second attempt beside it, or is one.
    doubled: bool = False


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
    #: Of two attempts of one mini-batch that are out at once, each to the other.
    twins: dict[int, int] = field(default_factory=dict)
    #: Mini-batches that are being split, by index; their open parts wait and run like mini-batches.
    isolations: dict[int, Isolation] = field(default_factory=dict)
    #: How many of `running` are parts.
    parts_out: int = 0
    pools: dict[str, Pool] = field(default_factory=dict)
    #: Nodes that have been granted credits, in that order: no other one has any, and those with none left may be here.
    granted: dict[str, None] = field(default_factory=dict)
    suspects: dict[str, Failure] = field(default_factory=dict)
    #: Why planning does not go on at present; empty when it does.
    planning_held_up: str = ""
    first_failure: Failure | None = None
    error: Failure | None = None
    cancelled: bool = False
    last_progress: float = 0.0
    #: Nodes that may hold attempts from before this start of the scheduler and have not said so yet; nothing is
    #: dispatched until the last of them has, or until that monotonic second.
    awaited: set[str] = field(default_factory=set)
    awaited_until: float = math.inf
    #: Seconds that the latest good attempts of whole mini-batches took.
    elapsed: deque[float] = field(default_factory=lambda: deque(maxlen=100))
