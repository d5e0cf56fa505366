"""Results as Markdown: targets first, then a table for each workload. Pure: rounds in, text out."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from measured import Spread, ratios

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from measured import Claim, Result, Round


_INTRODUCTION = """# What was measured

Written by `make bench-peers`; [README.md](README.md) says how each figure is made. Medians, with least and most, of
rounds that ran in turn. Figures of two machines do not compare; ratios compare better.

![How many times as fast as each peer](ratios.svg)"""


def document(results: Sequence[Result]) -> str:
    """RESULTS.md: the targets, and a table for each workload with the command that prints it."""
    tables = [f"{workload(each)}\n\n`{each.record.command}`, on {each.record.day}" for each in results]
    machines = dict.fromkeys(each.record.machine for each in results)
    beside = sorted({" ".join(pair) for each in results for pair in each.record.versions.items()})
    on = [f"On {each}." for each in machines] + ([f"Beside it: {', '.join(beside)}."] if beside else [])
    return "\n\n".join([_INTRODUCTION, "## Targets", targets(results), "## Workloads", *on, *tables]) + "\n"


def targets(results: Sequence[Result]) -> str:
    """One line a target: what was measured, what it has to be, and whether it is."""
    rows = [
        (each.target, _spread(each.value, each.unit), _bound(each), "met" if each.met else "**falls short**")
        for result in results
        for each in result.claims
    ]
    return _table(("target", "measured (least, most)", "has to be", ""), rows)


def workload(result: Result) -> str:
    """A table of its ways, and under it what each part of the first one has used."""
    rate = [f"{result.things} a second"] if result.things else []
    times = [f"{name}: times as fast" for name in result.compared]
    header = ("", "seconds (least, most)", *rate, *times, f"CPU{' each' if result.things else ''}", "peak memory")
    rows = [(name, *_cells(result, name, rounds, len(header) - 1)) for name, rounds in result.measured.items()]
    return "\n\n".join([f"### {result.title}", _table(header, rows), *_parts(result)])


def _cells(result: Result, name: str, rounds: list[Round], width: int) -> list[str]:
    if not rounds:
        return ["did not finish", *[""] * (width - 1)]
    rate = [_number(median(each.rate for each in rounds))] if result.things else []
    return [_spread(Spread.of([each.seconds for each in rounds])), *rate, *_times(result, name), *_used(rounds)]


def _times(result: Result, name: str) -> list[str]:
    other = result.others.get(name)
    return [_spread(ratios(result.measured[own], other)) if other else "" for own in result.compared]


def _used(rounds: list[Round]) -> list[str]:
    cpu = median(sum(each.cpu.values()) / each.count for each in rounds)
    peak = max(each.peak for each in rounds)
    return [_seconds(cpu) if rounds[0].cpu else "", f"{peak / 1e6:,.0f} MB" if peak else ""]


def _parts(result: Result) -> Iterator[str]:
    """CPU and memory of each process of the first way, where they are told apart."""
    rounds = next(iter(result.measured.values()))
    if not rounds or len(rounds[0].cpu) < 2:
        return
    told = (
        f"{name} {_seconds(median(each.cpu[name] / each.count for each in rounds))}"
        f" and {max(each.peaks.get(name, 0) for each in rounds) / 1e6:,.0f} MB"
        for name in rounds[0].cpu
    )
    yield f"CPU each and peak memory of {next(iter(result.measured))}: {', '.join(told)}."


def _bound(claim: Claim) -> str:
    return f"{'at least' if claim.at_least else 'at most'} {_number(claim.bound)}{claim.unit and ' '}{claim.unit}"


def _spread(value: Spread, unit: str = "") -> str:
    return f"{_number(value.median)}{unit and ' '}{unit} ({_number(value.least)}, {_number(value.most)})"


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _seconds(value: float) -> str:
    """Seconds in the unit that they are of."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{_number(value / size)} {unit}"
    return f"{_number(value / 1e-6)} µs"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Markdown with columns of one width, so that it reads as plain text, too."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    ruled = [header, tuple("-" * width for width in widths), *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in ruled)
