"""What a round of a benchmark gives, and how rounds of several ways become medians, ratios and targets met."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from record import Record


class Failed(Exception):
    """A way that did not get to its end. Its sentence stands where its figures would."""


@dataclass(frozen=True)
class Round:
    """One timed run over `count` things: the CPU seconds and the peak of memory (bytes) of each part of the way, and
    the peak of all parts together."""

    seconds: float
    count: int
    cpu: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    peak: int = 0

    @property
    def rate(self) -> float:
        """Things a second."""
        return self.count / self.seconds


#: The rounds of each way, by its name; none of one that failed.
Measured = dict[str, list[Round]]


@dataclass(frozen=True)
class Spread:
    """A median with minimum and maximum."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Claim:
    """A target beside what was measured: `value` has to be at least, or at most, `bound`."""

    target: str
    value: Spread
    bound: float
    at_least: bool = True
    unit: str = ""
    #: The way whose speed or time the value is a ratio to, if it is one.
    against: str = ""

    @property
    def met(self) -> bool:
        """Whether the median keeps the bound."""
        return self.value.median >= self.bound if self.at_least else self.value.median <= self.bound

    @property
    def times_as_fast(self) -> float:
        """The bound of a ratio, as the least number of times that the first way has to be as fast as the other."""
        return self.bound if self.at_least else 1 / self.bound


@dataclass(frozen=True)
class Result:
    """One workload: what was done in words, what the counted things are called, its rounds and its targets."""

    title: str
    things: str
    measured: Measured
    claims: list[Claim]
    #: The ways of ours that others are compared with, and further ones of ours.
    compared: tuple[str, ...]
    aside: tuple[str, ...]
    record: Record

    @property
    def others(self) -> dict[str, list[Round]]:
        """Those that ours are compared with."""
        ours = (*self.compared, *self.aside)
        return {name: rounds for name, rounds in self.measured.items() if self.compared and name not in ours}


def interleaved(ways: dict[str, Callable[[], Round]], rounds: int) -> Measured:
    """A B A B …, so that a slow minute of the machine meets all. A way that fails once is not tried again."""
    measured: Measured = {name: [] for name in ways}
    failed: set[str] = set()
    for _ in range(rounds):
        for name in [name for name in ways if name not in failed]:
            try:
                measured[name].append(ways[name]())
            except Failed as why:
                print(f"{name} is left out: {why}", file=sys.stderr, flush=True)
                failed.add(name)
                measured[name] = []
    return measured


def ratios(first: list[Round], second: list[Round]) -> Spread:
    """How many times as fast the first way was as the second, round by round. Above 1 the first is the faster one."""
    return Spread.of([one.rate / other.rate for one, other in zip(first, second, strict=True)])


def less(rounds: list[Round], taken: list[Round]) -> list[Round]:
    """The same rounds without the time of another way's: what is left when a fixed cost is taken off."""
    return [
        Round(each.seconds - other.seconds, each.count, each.cpu, each.peaks, each.peak)
        for each, other in zip(rounds, taken, strict=True)
    ]


def check(holds: bool, what: str) -> None:
    """A wrong result is no measurement."""
    if not holds:
        raise RuntimeError(what)
