"""Finding the bad items of a mini-batch: rounds of halves, each decided at its end, so that the result is the same
whichever half ended first.

    [0,8) failed ─▶ [0,4) ok, [4,8) failed ─▶ [4,6) failed, [6,8) ok ─▶ [4] ok, [5] failed ─▶ [5] failed again: it alone
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .model import OF_RUN, MiniBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events import AttemptEnd
    from .model import Failure, Limits

#: Runs of an item that stands alone before it is bad.
_LONE_TRIES = 2


class PartRow(NamedTuple):
    """What the database knows of one part that has run (or of the whole, level 0): the last outcome that begins at
    `first`. `failed` is whether it failed and may still be split or tried again; `tries` as in MiniBatch."""

    first: int
    items: int
    level: int
    #: Extra runs of the mini-batch up to the end of that level.
    runs: int
    tries: int
    failed: bool
    succeeded_items: int = 0
    failed_items: int = 0
    rows: int = 0


@dataclass(slots=True)
class Isolation:
    """One mini-batch that is being split. `open` are the parts of this level that have not ended."""

    index: int
    items: int
    level: int
    #: Extra runs up to the end of this level.
    runs: int
    open: list[MiniBatch]
    failed: list[MiniBatch] = field(default_factory=list)
    succeeded_items: int = 0
    failed_items: int = 0
    rows: int = 0
    #: Parts that have failed for good; their items are among `failed_items`.
    failed_parts: int = 0


def budget(items: int) -> int:
    """How many extra runs the search in so many items may take: 4 ceil(log2 n)."""
    return 4 * (items - 1).bit_length()


def splits(limits: Limits, mini_batch: MiniBatch, failure: Failure) -> bool:
    """Whether a whole mini-batch that is out of tries by that failure is searched for its bad items."""
    return limits.isolate_failures and not mini_batch.level and mini_batch.items > 1 and failure.kind in OF_RUN


def begin(mini_batch: MiniBatch) -> Isolation:
    """The first level of a mini-batch that failed whole."""
    isolation = Isolation(mini_batch.index, mini_batch.items, level=0, runs=0, open=[], failed=[mini_batch])
    next_level(isolation)
    return isolation


def part_ended(isolation: Isolation, part: MiniBatch, end: AttemptEnd) -> None:
    """Takes in the end of one run of an open part. A good part is final; what failed is decided at the level's end."""
    isolation.open.remove(part)
    if end.failure is None:
        isolation.succeeded_items += end.succeeded_items
        isolation.failed_items += end.failed_items
        isolation.rows += end.rows
    else:
        isolation.failed.append(part)


def next_level(isolation: Isolation) -> list[MiniBatch]:
    """Ends a level: what of it is run again, in order; all else that failed has failed for good.

    The runs of a level are counted at its beginning: each of its parts runs once.
    """
    isolation.level += 1
    left = budget(isolation.items) - isolation.runs
    for part in sorted(isolation.failed, key=lambda each: each.first):
        parts = _again(part, isolation.level)
        if parts and len(parts) <= left:
            isolation.open += parts
            left -= len(parts)
        else:
            _fail(isolation, part.items)
    isolation.runs += len(isolation.open)
    isolation.failed.clear()
    return isolation.open


def restored(index: int, items: int, rows: Sequence[PartRow]) -> Isolation:
    """The isolation of one mini-batch as the rows of its parts tell it; without `open` parts it has ended.

    Each part that has ever run has a row that begins where it began, of itself or of what became of it. So a gap
    between the rows is a second half that has not ended.
    """
    rows = sorted(rows)
    level = max(row.level for row in rows)
    latest = [row for row in rows if row.level == level]
    isolation = Isolation(index, items, level, latest[0].runs, open=_gaps(index, items, level, rows))
    for row in rows:
        if not row.failed:
            isolation.succeeded_items += row.succeeded_items
            isolation.failed_items += row.failed_items
            isolation.rows += row.rows
        elif row.level == level:
            isolation.failed.append(_part(index, row))
        elif row.level < level - 1:
            _fail(isolation, row.items)
    _reopen(isolation, rows, len(latest))
    if not isolation.open:
        next_level(isolation)
    return isolation


def _again(part: MiniBatch, level: int) -> list[MiniBatch]:
    """What a part that failed becomes: its halves, or itself once more; nothing when it is a bad item."""
    if part.items > 1:
        half = (part.items + 1) // 2
        return [
            MiniBatch(part.index, half, first=part.first, level=level),
            MiniBatch(part.index, part.items - half, first=part.first + half, level=level),
        ]
    if part.tries < _LONE_TRIES:
        return [MiniBatch(part.index, 1, part.tries, part.first, level)]
    return []


def _fail(isolation: Isolation, items: int) -> None:
    isolation.failed_items += items
    isolation.failed_parts += 1


def _part(index: int, row: PartRow) -> MiniBatch:
    return MiniBatch(index, row.items, row.tries, row.first, row.level)


def _gaps(index: int, items: int, level: int, rows: Sequence[PartRow]) -> list[MiniBatch]:
    gaps, reached = [], 0
    for first, size in [*((row.first, row.items) for row in rows), (items, 0)]:
        if first > reached:
            gaps.append(MiniBatch(index, first - reached, first=reached, level=level))
        reached = max(reached, first + size)
    return gaps


def _reopen(isolation: Isolation, rows: Sequence[PartRow], ended: int) -> None:
    """Sets apart what failed in the level before: run again in this one, where it has no row yet, or failed for good.

    How many runs were granted to this level is known, and they were granted in order.
    """
    before = [row for row in rows if row.failed and row.level == isolation.level - 1]
    if not before:
        return
    left = isolation.runs - before[0].runs - ended - len(isolation.open)
    halved = [row for row in before if any(row.first < each.first < row.first + row.items for each in rows)]
    isolation.open += [_again(_part(isolation.index, row), isolation.level)[0] for row in halved]
    left -= len(halved)
    for row in before:
        if row in halved:
            continue
        parts = _again(_part(isolation.index, row), isolation.level)
        if parts and len(parts) <= left:
            isolation.open += parts
            left -= len(parts)
        else:
            _fail(isolation, row.items)
    isolation.open.sort(key=lambda part: part.first)
