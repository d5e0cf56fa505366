"""What travels on a wire, as agent.proto has it, less what decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchmesh.scheduler.model import FailureKind, PoolPhase


@dataclass(frozen=True, slots=True)
class Sent:
    """A mini-batch, or a part of one, on its way to a worker."""

    attempt: int
    index: int
    first: int
    items: int
    part: int
    #: It is the first try of its mini-batch, and no backup.
    first_try: bool


@dataclass(frozen=True, slots=True)
class Request:
    dispatch: tuple[Sent, ...] = ()
    abort: tuple[int, ...] = ()
    abort_all: bool = False
    finish: bool = False
    acknowledged: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    attempt: int
    failure: FailureKind | None
    succeeded: int = 0
    failed: int = 0
    rows: int = 0
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class Status:
    phase: PoolPhase
    workers: int = 0
    held_up: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    #: (attempt, mini-batch, part) of all that is held; in the first response of a stream alone.
    held: tuple[tuple[int, int, int], ...] | None = None
    status: Status | None = None
    credits: int = 0
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat."""

    node_id: str
    draining: bool = False
    leaving: bool = False
    replaces: str = ""
