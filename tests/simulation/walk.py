"""Walking through many worlds, one a seed; what goes wrong is told by the smallest world that still shows it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batchmesh.scheduler.machine import Machine

from .protections import Protections
from .violation import Violation
from .world import Shape, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Walk:
    """How each world of a walk is made: its size, what protects it, and which Machine decides in it."""

    shape: Shape = field(default_factory=Shape)
    protections: Protections = field(default_factory=Protections)
    machine: type[Machine] = Machine

    def live(self, seed: int) -> int:
        """Lets one world live to its end; returns how many events its Machines took. Raises Violation."""
        world = World(seed, self.shape, self.protections, self.machine)
        world.live()
        return world.events

    def outcome(self, seed: int) -> int | Violation:
        """As live(), with the violation as a value."""
        try:
            return self.live(seed)
        except Violation as violation:
            return violation


@dataclass(frozen=True, slots=True)
class Found:
    """A violation, and the smallest world found that shows one."""

    seed: int
    shape: Shape
    violation: Violation

    def __str__(self) -> str:
        shape = self.shape
        again = (
            f"python -m tests.simulation --seed {self.seed} --worlds 1 --nodes {shape.nodes} --jobs {shape.jobs} "
            f"--mini-batches {shape.mini_batches} --faults {shape.faults}"
        )
        return f"seed {self.seed}: {self.violation}\nagain: {again}"


def walk(events: int, seed: int, how: Walk | None = None) -> tuple[int, int]:
    """Lives world after world, beginning with `seed`, until so many events have passed; returns events and worlds.

    Raises AssertionError with a short history for the first violation.
    """
    how = how or Walk()
    passed = worlds = 0
    while passed < events:
        outcome = how.outcome(seed + worlds)
        assert isinstance(outcome, int), str(shrunk(seed + worlds, how, outcome))
        passed += outcome
        worlds += 1
    return passed, worlds


def shrunk(seed: int, how: Walk, violation: Violation) -> Found:
    """Makes the world smaller for as long as it still goes wrong."""
    best = Found(seed, how.shape, violation)
    while True:
        for shape in _smaller(best.shape):
            found = replace(how, shape=shape).outcome(seed)
            if isinstance(found, Violation):
                best = Found(seed, shape, found)
                break
        else:
            return best


def _smaller(shape: Shape) -> Iterator[Shape]:
    for name, value in (
        ("jobs", shape.jobs - 1),
        ("nodes", shape.nodes // 2),
        ("nodes", shape.nodes - 1),
        ("mini_batches", shape.mini_batches // 2),
        ("mini_batches", shape.mini_batches - 1),
        ("faults", min(shape.faults, 64) // 2),
        ("faults", shape.faults - 1 if shape.faults <= 64 else 64),
    ):
        if value < getattr(shape, name) and value >= (name != "faults"):
            yield replace(shape, **{name: value})  # type: ignore[arg-type]
