"""What can happen to a mesh, drawn at random: pure, so that a seed is a story that can be told again.

Fault n of a seed is always the same one, whatever the processes did meanwhile. Which one is drawn depends only on the
seed and on what can be done on this machine (`Ground`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.support.wired_mesh import CLIENT, COMMITS, STORED, beats, streams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random


class Kind(StrEnum):
    """The names that the history and the summary use."""

    KILL = "SIGKILL"
    STOP = "SIGSTOP, SIGCONT"
    CUT = "connections reset"
    UNPLUG = "cut both ways"
    FREEZE = "cut, noticed by nobody"
    HOLD = "calls silent, pings answered"
    FAIL = "executed, answered with an error"
    LOSE = "request lost"
    DELAY = "messages delayed"
    DISK_FULL = "full disk"
    SYNC_FAILS = "failing fsync"
    CLOCK_JUMPS = "clock jumps"


#: How often each is drawn, beside the others.
_WEIGHTS = {
    Kind.KILL: 40,
    Kind.STOP: 12,
    Kind.CUT: 6,
    Kind.UNPLUG: 10,
    Kind.FREEZE: 8,
    Kind.HOLD: 10,
    Kind.FAIL: 8,
    Kind.LOSE: 6,
    Kind.DELAY: 4,
    Kind.DISK_FULL: 5,
    Kind.SYNC_FAILS: 5,
    Kind.CLOCK_JUMPS: 5,
}
WORKER = "worker"
#: Seconds that each durable step takes longer in the next life of a service.
_DURABLE_DELAYS = (0.0, 0.0, 0.005, 0.05)
_CLOCK_JUMPS = (-86_400, -3_600, -10, 10, 3_600, 86_400)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens."""

    kind: Kind
    #: A service, a wire, or WORKER.
    target: str
    #: Seconds between the fault before and this one.
    pause: float
    #: Seconds until it is healed, or its victim comes back; 0: nothing to heal.
    seconds: float
    #: Whatever else it needs: directions of a wire, a method, "late" or "lost", seconds of a delay or a jump.
    detail: str = ""
    #: Which of several, in [0, 1): of the workers that live just then.
    pick: float = 0.0

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind.value}: {self.target}{lasting}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class Ground:
    """What there is to hurt, and what cannot be done here."""

    agents: int
    #: Seconds of a node's lease.
    lease: float
    without: frozenset[Kind] = frozenset()

    @property
    def services(self) -> tuple[str, ...]:
        return ("scheduler", "storage", *(f"agent{number}" for number in range(self.agents)))

    @property
    def wires(self) -> tuple[str, ...]:
        numbers = range(self.agents)
        return (CLIENT, STORED, COMMITS, *map(beats, numbers), *map(streams, numbers))

    @property
    def methods(self) -> tuple[tuple[str, str], ...]:
        """Wire and method of all calls that may be lost or answered wrongly."""
        common = [
            (CLIENT, "SubmitJob"),
            (CLIENT, "WatchJob"),
            (STORED, "WriteSegments"),
            (STORED, "WriteSegments"),
            (STORED, "ReadArtifact"),
            (STORED, "AppendLog"),
            (COMMITS, "ReserveOutput"),
            (COMMITS, "CommitOutput"),
            (COMMITS, "CommitOutput"),
        ]
        for number in range(self.agents):
            common += [(beats(number), "Heartbeat"), (streams(number), "RunMiniBatches")]
        return tuple(common)


def draw(rng: Random, ground: Ground) -> Iterator[Fault]:
    """Faults without end."""
    kinds = [kind for kind in Kind if kind not in ground.without]
    weights = [_WEIGHTS[kind] for kind in kinds]
    while True:
        (kind,) = rng.choices(kinds, weights)
        yield _drawn(rng, ground, kind)


def _drawn(rng: Random, ground: Ground, kind: Kind) -> Fault:
    pause, seconds, pick = rng.uniform(0.1, 1.5), _seconds(rng, ground.lease), rng.random()
    target, detail = _aim(rng, ground, kind)
    if kind in (Kind.CUT, Kind.FAIL, Kind.LOSE) or (kind is Kind.KILL and target == WORKER):
        seconds = 0.0
    return Fault(kind, target, pause, seconds, detail, pick)


def _seconds(rng: Random, lease: float) -> float:
    """Less than a lease, or more."""
    return rng.uniform(0.1, 0.6) * lease if rng.random() < 0.6 else rng.uniform(1.2, 2.0) * lease


def _aim(rng: Random, ground: Ground, kind: Kind) -> tuple[str, str]:
    """Target and detail."""
    match kind:
        case Kind.CUT | Kind.UNPLUG | Kind.FREEZE | Kind.HOLD | Kind.DELAY:
            return rng.choice(ground.wires), _how(rng, kind)
        case Kind.FAIL | Kind.LOSE:
            return rng.choice(ground.methods)
        case Kind.CLOCK_JUMPS:
            return rng.choice(ground.services), str(rng.choice(_CLOCK_JUMPS))
        case Kind.DISK_FULL:
            return "storage", ""
        case Kind.SYNC_FAILS:
            return rng.choice(("scheduler", "storage")), ""
    agents = ground.services[2:]
    target = rng.choice(("scheduler", "scheduler", "storage", rng.choice(agents), rng.choice(agents), WORKER))
    delayed = kind is Kind.KILL and target in ("scheduler", "storage")
    return target, str(rng.choice(_DURABLE_DELAYS)) if delayed else ""


def _how(rng: Random, kind: Kind) -> str:
    """What a fault of a wire needs to know."""
    directions = rng.choice(("requests", "responses", "requests responses"))
    match kind:
        case Kind.FREEZE:
            return directions
        case Kind.HOLD:
            return f"{directions} {rng.choice(('late', 'lost'))}"
        case Kind.DELAY:
            return str(rng.choice((0.02, 0.1, 0.4)))
    return ""
