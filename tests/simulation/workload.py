"""Made-up jobs: items that behave in a known way, whoever runs them, and how often."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchmesh.scheduler.model import FailureKind, Limits

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence


class Item(enum.Enum):
    GOOD = "good"
    #: run() returns nothing for it: it is counted as failed, its mini-batch is not.
    SHORT = "short"
    #: Fails the first run of its mini-batch that comes to an end, no other one.
    FLAKY = "flaky"
    #: Fails each run.
    POISON = "poison"
    #: Takes its node down.
    KILLER = "killer"
    #: Takes long on the first try.
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Planned:
    """One mini-batch of the plan. `poison` is how its poison fails; `unreadable`: it never runs."""

    index: int
    items: tuple[Item, ...]
    poison: FailureKind
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    job_id: str
    limits: Limits
    mini_batches: tuple[Planned, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What running a part comes to: the rows (numbers of the items they are of), or how it failed."""

    failure: FailureKind | None
    rows: tuple[int, ...]
    failed_items: int


def run(planned: Planned, first: int, count: int, flakes: bool = False) -> Result:
    """What becomes of the items [first, first + count) when they run together and nothing interrupts them."""
    items = planned.items[first : first + count]
    for item in items:
        if item is Item.POISON:
            return Result(planned.poison, (), 0)
        if item is Item.FLAKY and flakes:
            return Result(FailureKind.RUN_RAISED, (), 0)
    rows = tuple(first + place for place, item in enumerate(items) if item is not Item.SHORT)
    return Result(None, rows, count - len(rows))


_OF_RUN = (
    FailureKind.RUN_RAISED,
    FailureKind.RUN_RAISED,
    FailureKind.RUN_TIMEOUT,
    FailureKind.WORKER_CRASHED,
    FailureKind.OUT_OF_MEMORY,
)
_OTHER = (FailureKind.READ_FAILED, FailureKind.BAD_RETURN, FailureKind.BAD_RESULT)


def draw_workload(random: random.Random, job_id: str, most: int) -> Workload:
    """A job of at most `most` mini-batches; most have few bad items, some are bad throughout."""
    limits = _draw_limits(random)
    size = random.choice((1, 2, 3, 5, 8, 13, 16))
    weights = {
        Item.POISON: random.choice((0.0, 0.02, 0.02, 0.1, 0.5)),
        Item.FLAKY: random.choice((0.04, 0.04, 0.4)),
        Item.SHORT: 0.03,
        Item.SLOW: random.choice((0.01, 0.01, 0.3 / size)),
    }
    killers = random.random() < 0.08
    drawn = [_draw(random, index, random.randint(1, size), weights, limits) for index in range(random.randint(1, most))]
    if killers:
        victim = random.choice(drawn)
        killing = (Item.KILLER, *victim.items[1:])
        drawn[victim.index] = Planned(victim.index, killing, victim.poison, victim.unreadable)
    return Workload(job_id, limits, tuple(drawn))


def _draw_limits(random: random.Random) -> Limits:
    bears_all = random.random() < 0.8
    return Limits(
        run_max_try=random.choice((1, 2, 3, 3)),
        error_threshold=-1 if bears_all else random.choice((0, 1, 5, 20)),
        allowed_failed_count=-1 if bears_all else random.choice((-1, 0, 2)),
        allowed_failed_percent=100.0 if bears_all else random.choice((100.0, 50.0, 10.0)),
        node_count=random.choice((0, 0, 0, 2)),
        needs_rows=random.random() < 0.9,
        isolate_failures=random.random() < 0.85,
        backup_attempts=random.choice((None, None, True, False)),
    )


def _draw(random: random.Random, index: int, count: int, weights: dict[Item, float], limits: Limits) -> Planned:
    of_run = random.random() < 0.8
    poison = random.choice(_OF_RUN if of_run else _OTHER)
    # With one try a flaky item is a bad one; beside a failure of another kind, the last one to fail would decide.
    if limits.run_max_try == 1 or not of_run:
        weights = {**weights, Item.FLAKY: 0.0}
    items = tuple(_draw_item(random, weights) for _ in range(count))
    return Planned(index, items, poison, unreadable=count == 1 and random.random() < 0.1)


def _draw_item(random: random.Random, weights: dict[Item, float]) -> Item:
    drawn = random.random()
    for item, weight in weights.items():
        drawn -= weight
        if drawn < 0:
            return item
    return Item.GOOD


def items_of(mini_batches: Sequence[Planned]) -> int:
    return sum(len(each.items) for each in mini_batches)
