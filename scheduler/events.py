"""What the Machine is told (events, in the past tense) and what it asks for (commands, in the imperative)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .model import NO_TARGET, Belonging, Counts, Failure, Limits, MiniBatch, PoolPhase, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .isolation import Isolation

# ---- events ----


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """A job was accepted, resumed, or found unfinished at start; `counts` holds what is already done."""

    job_id: str
    limits: Limits
    counts: Counts = field(default_factory=Counts)
    #: Nodes that served it before this start of the scheduler and may hold attempts of it. Nothing is dispatched before
    #: each of them has told what it holds, or was lost, or `patience` seconds are over.
    expected_nodes: frozenset[str] = frozenset()
    patience: float = 0.0
    #: The first one of its mini-batches, of what is already done.
    first_failure: Failure | None = None
    #: It was coming to its end for that reason before this start of the scheduler, and does so again.
    ended_by: Failure | None = None


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
class PlanningHeldUp:
    """Why planning does not go on at present, in a few words; empty when it does."""

    job_id: str
    why: str


@dataclass(frozen=True, slots=True)
class MiniBatchesPlanned:
    """These may be dispatched: the next piece of the plan, in order.

    `isolations` are those found half-way in the database; their open parts are not among `mini_batches`.
    """

    job_id: str
    mini_batches: list[MiniBatch]
    isolations: Sequence[Isolation] = ()


@dataclass(frozen=True, slots=True)
class HeldAttempt:
    """An attempt that a node has kept while no stream led to it; `part` as in MiniBatch."""

    attempt_id: int
    index: int
    part: int


@dataclass(frozen=True, slots=True)
class AttemptsHeld:
    """A new stream to a node has told what of the job the node holds; what it does not hold it has lost.

    `opened` and `isolations` are, of the mini-batches held, those that are not settled and were not open yet.
    """

    job_id: str
    node_id: str
    attempts: list[HeldAttempt]
    opened: Sequence[MiniBatch] = ()
    isolations: Sequence[Isolation] = ()


@dataclass(frozen=True, slots=True)
class NodeJoined:
    node_id: str
    belonging: Belonging = NO_TARGET


@dataclass(frozen=True, slots=True)
class NodeDraining:
    """It ends what it has and takes nothing new."""

    node_id: str


@dataclass(frozen=True, slots=True)
class NodeLost:
    """`left`: it said that it goes, and all that it had told is counted."""

    node_id: str
    left: bool = False


@dataclass(frozen=True, slots=True)
class PoolChanged:
    """A pool's phase or its number of workers changed (READY and FAILED among them)."""

    job_id: str
    node_id: str
    phase: PoolPhase
    workers: int = 0
    failure: Failure | None = None
    #: Why results cannot be stored at present; empty when they can.
    held_up: str = ""


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream to a node has ended: what was out on it comes back.

    `broken`: it ended unasked, and the node may still hold what was out; it is asked by another stream.
    """

    job_id: str
    node_id: str
    broken: bool = False


@dataclass(frozen=True, slots=True)
class CreditsGranted:
    job_id: str
    node_id: str
    credits: int


class AttemptEnd(NamedTuple):
    """How one attempt ended; `failure` is None when run() returned. A tuple, for there is one for each attempt."""

    attempt_id: int
    succeeded_items: int = 0
    failed_items: int = 0
    rows: int = 0
    failure: Failure | None = None
    #: Seconds that it took in its worker.
    elapsed: float = 0.0


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
    | PlanningHeldUp
    | MiniBatchesPlanned
    | AttemptsHeld
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
    """Open a stream to the node; after a broken one, another."""

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
    """Send these (attempt id, mini-batch or part), in order; the try has the number `tries` + 1."""

    job_id: str
    node_id: str
    attempts: list[tuple[int, MiniBatch]]


@dataclass(frozen=True, slots=True)
class Abort:
    """End these attempts; what comes of them counts nothing."""

    job_id: str
    node_id: str
    attempts: list[int]


@dataclass(frozen=True, slots=True)
class RecordLoss:
    """Make this outcome of an attempt durable as its node cannot, then tell it as ended with that failure."""

    job_id: str
    attempt_id: int
    node_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Seal:
    """The isolation of these mini-batches has ended: what is recorded as failed of them is final."""

    job_id: str
    indexes: list[int]


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


Command = OpenPool | ClosePool | Dispatch | Abort | RecordLoss | Seal | Settle | TellState | Commit | Discard
