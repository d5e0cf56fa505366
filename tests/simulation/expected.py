"""What a plain loop over the input would give, and which items the search for the bad ones leaves failed.

Written from the rules alone, without a line of the scheduler: recursion over levels, no rows, no restarts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchmesh.scheduler.model import FailureKind, Limits

from .workload import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .workload import Planned

#: A range of items, [first, first + count), and how often it has failed alone.
_Part = tuple[int, int, int]

_SPLIT = (
    FailureKind.RUN_RAISED,
    FailureKind.RUN_TIMEOUT,
    FailureKind.WORKER_CRASHED,
    FailureKind.OUT_OF_MEMORY,
)


@dataclass(frozen=True, slots=True)
class Fate:
    """The items of one mini-batch whose rows stand in the output, in order, and whether a part of it failed."""

    rows: tuple[int, ...]
    items: int
    failed: bool


def fate_of(planned: Planned, limits: Limits) -> Fate:
    """What becomes of a mini-batch when nothing dies."""
    count = len(planned.items)
    if planned.unreadable:
        return Fate((), count, failed=True)
    last = run(planned, 0, count)
    if last.failure is None:
        return Fate(last.rows, count, failed=False)
    if not limits.isolate_failures or count == 1 or last.failure not in _SPLIT:
        return Fate((), count, failed=True)
    rows, failed = _search(planned, count)
    return Fate(tuple(sorted(rows)), count, failed)


def _search(planned: Planned, count: int) -> tuple[list[int], bool]:
    left = 4 * math.ceil(math.log2(count)) - 2
    level: list[_Part] = _halves(0, count)
    rows: list[int] = []
    gave_up = False
    while level:
        bad: list[_Part] = []
        for first, size, failures in level:
            result = run(planned, first, size)
            rows += result.rows
            if result.failure is not None:
                bad.append((first, size, failures + 1))
        level, left, lost = _next(bad, left)
        gave_up = gave_up or lost
    return rows, gave_up


def _next(bad: Sequence[_Part], left: int) -> tuple[list[_Part], int, bool]:
    """The next level, the runs left after it, and whether a part was given up."""
    level: list[_Part] = []
    lost = False
    for first, size, failures in bad:
        parts = _halves(first, size) if size > 1 else [(first, 1, failures)] if failures == 1 else []
        if parts and len(parts) <= left:
            level += parts
            left -= len(parts)
        else:
            lost = True
    return level, left, lost


def _halves(first: int, size: int) -> list[_Part]:
    middle = math.ceil(size / 2)
    return [(first, middle, 0), (first + middle, size - middle, 0)]


def succeeds(fates: Sequence[Fate], planned: Sequence[Planned], limits: Limits) -> bool:
    """Whether a job that comes to these fates succeeds, by its thresholds."""
    rows = sum(len(fate.rows) for fate in fates)
    items = sum(fate.items for fate in fates)
    failed = sum(fate.failed for fate, each in zip(fates, planned, strict=True) if not each.unreadable)
    if 0 <= limits.error_threshold < items - rows:
        return False
    if 0 <= limits.allowed_failed_count < failed:
        return False
    if limits.allowed_failed_percent < 100 and 100 * failed > limits.allowed_failed_percent * len(fates):
        return False
    return rows > 0 or not limits.needs_rows
