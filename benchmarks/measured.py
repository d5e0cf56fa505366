"""What a round of a benchmark gives, and how rounds of two ways are told side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Round:
    """One timed run over `count` things, and the CPU seconds of each process of the mesh."""

    seconds: float
    count: int
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Things a second."""
        return self.count / self.seconds


def interleaved(ways: dict[str, Callable[[], Round]], rounds: int) -> dict[str, list[Round]]:
    """A B A B …, so that a slow minute of the machine meets both."""
    measured: dict[str, list[Round]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            measured[name].append(way())
    return measured


def check(holds: bool, what: str) -> None:
    """A wrong result is no measurement."""
    if not holds:
        raise RuntimeError(what)


def table(title: str, measured: dict[str, list[Round]]) -> str:
    """Medians with minimum and maximum, the ratio of the first way to the second, and the first one's CPU."""
    lines = [f"\n{title}, per second", f"{'':12}{'median':>12}{'min':>12}{'max':>12}"]
    for name, rounds in measured.items():
        rates = [each.rate for each in rounds]
        lines.append(f"{name:12}{median(rates):12,.0f}{min(rates):12,.0f}{max(rates):12,.0f}")
    first, second = measured.values()
    ratios = [one.rate / other.rate for one, other in zip(first, second, strict=True)]
    lines.append(f"{'ratio':12}{median(ratios):12.2f}{min(ratios):12.2f}{max(ratios):12.2f}")
    lines.append("CPU of the mesh, microseconds each: " + ", ".join(_cpu(first)))
    return "\n".join(lines)


def _cpu(rounds: list[Round]) -> list[str]:
    def each(name: str) -> float:
        return median(1e6 * one.cpu[name] / one.count for one in rounds)

    names = list(rounds[0].cpu)
    return [f"{name} {each(name):.3g}" for name in names] + [f"all {sum(map(each, names)):.3g}"]
