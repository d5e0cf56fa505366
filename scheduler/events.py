"""What the Machine is told (events, in the past tense) and what it asks for (commands, in the imperative)."""

from __future__ import annotations

from dataclasses import dataclass, field

from .model import Counts, Failure, Limits, MiniBatch, PoolPhase, State

# ---- events ----


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """A job was accepted, resumed, or found unfinished at start; `counts` holds what is already done."""

    job_id: str
    limits: Limits
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class PlanGrew:
    """So many mini-batches more are planned and durable."""

    job_id: str
    mini_batches: int
    items: int
    ended: bool = False
    #: Of them, files that cannot be read: failed items, never run.
    unreadable: int = 0
    first_unreadable: Failure | None = None


@dataclass(frozen=True, slots=True)
class PlanningFailed:
    job_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class MiniBatchesPlanned:
    """These may be dispatched: the next piece of the plan, in order."""

    job_id: str
    mini_batches: list[MiniBatch]


@dataclass(frozen=True, slots=True)
class NodeJoined:
    node_id: str


@dataclass(frozen=True, slots=True)
class NodeDraining:
    """It ends what it has and takes nothing new."""

    node_id: str


@dataclass(frozen=True, slots=True)
class NodeLost:
    node_id: str


@dataclass(frozen=True, slots=True)
class PoolChanged:
    """A pool's phase or its number of workers changed (READY and FAILED among them)."""

    job_id: str
    node_id: str
    phase: PoolPhase
    workers: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream to a node ended or broke; what was out on it comes back."""

    job_id: str
    node_id: str


@dataclass(frozen=True, slots=True)
class CreditsGranted:
    job_id: str
    node_id: str
    credits: int


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How one attempt ended; `failure` is None when run() returned."""

    attempt_id: int
    succeeded_items: int = 0
    failed_items: int = 0
    rows: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class AttemptsEnded:
    """Durable before told."""

    job_id: str
    ends: list[AttemptEnd]


@dataclass(frozen=True, slots=True)
class JobCancelled:
    job_id: str


@dataclass(frozen=True, slots=True)
class FramesDamaged:
    """Frames that a commit could not read: their mini-batches run again, `lost` is what they had counted."""

    job_id: str
    mini_batches: list[MiniBatch]
    lost: Counts


@dataclass(frozen=True, slots=True)
class OutputCommitted:
    """The output, or the report of a job that did not succeed, is published."""

    job_id: str


@dataclass(frozen=True, slots=True)
class OutputFailed:
    job_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Ticked:
    """A second has passed."""


Event = (
    JobSubmitted
    | PlanGrew
    | PlanningFailed
    | MiniBatchesPlanned
    | NodeJoined
    | NodeDraining
    | NodeLost
    | PoolChanged
    | StreamEnded
    | CreditsGranted
    | AttemptsEnded
    | JobCancelled
    | FramesDamaged
    | OutputCommitted
    | OutputFailed
    | Ticked
)

# ---- commands ----


@dataclass(frozen=True, slots=True)
class OpenPool:
    job_id: str
    node_id: str


@dataclass(frozen=True, slots=True)
class ClosePool:
    """End the stream to the node; with `abort` its open attempts and their workers are ended, too."""

    job_id: str
    node_id: str
    abort: bool = False


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send these (attempt id, mini-batch index, number of the try), in order."""

    job_id: str
    node_id: str
    attempts: list[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Settle:
    """Nothing more is to come of these mini-batches: their payloads may be forgotten."""

    job_id: str
    indexes: list[int]


@dataclass(frozen=True, slots=True)
class TellState:
    """Make the state durable, then tell it."""

    job_id: str
    state: State


@dataclass(frozen=True, slots=True)
class Commit:
    """Have storage assemble and publish the output."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Have storage write the report alone; nothing of the rows is published."""

    job_id: str


Command = OpenPool | ClosePool | Dispatch | Settle | TellState | Commit | Discard
