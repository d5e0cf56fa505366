"""Who gets the node's slots: a pure decision over what pools have and want."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Claim:
    """What one pool has and wants."""

    pool: int
    #: Workers it could use now; 0 for a pool without a job.
    wanted: int
    #: Workers that start or are ready and are not about to end.
    live: int
    #: Workers told to end that still hold their slots.
    ending: int
    #: Grows with time: when its job came, or for a pool without one when that ended.
    since: int

    @property
    def serving(self) -> bool:
        return self.wanted > 0

    @property
    def short(self) -> int:
        return max(0, self.wanted - self.live)


@dataclass(frozen=True)
class Moves:
    """Pools that start a worker and pools that end one (serving ones at its next idle moment), once for each worker."""

    start: list[int]
    end: list[int]


def decide(slots: int, claims: list[Claim]) -> Moves:
    """The moves that bring the claims closer to what they want.

    A pool that waits with no worker at all comes first, then whoever came first. What is missing then comes from pools
    without a job, idle longest first; a serving pool that has none gets one from the pool with the most workers, if
    that is more than one.
    """
    start, after = _fill(slots - sum(each.live + each.ending for each in claims), claims)
    coming = sum(each.ending for each in claims)
    idle = _idle_workers(after)[: max(0, sum(each.short for each in after) - coming)]
    waiting = sum(each.serving and each.live == 0 for each in after)
    return Moves(start, idle + _taken(after, max(0, waiting - coming - len(idle))))


def _fill(free: int, claims: list[Claim]) -> tuple[list[int], list[Claim]]:
    """Hands the free slots out; returns who starts one, and the claims after that."""
    by_pool = {each.pool: each for each in claims}
    start = []
    for _ in range(max(0, free)):
        short = [each for each in by_pool.values() if each.short]
        if not short:
            break
        first = min(short, key=lambda each: (each.live > 0, each.since))
        by_pool[first.pool] = replace(first, live=first.live + 1)
        start.append(first.pool)
    return start, list(by_pool.values())


def _idle_workers(claims: list[Claim]) -> list[int]:
    idle = sorted((each for each in claims if not each.serving), key=lambda each: each.since)
    return [each.pool for each in idle for _ in range(each.live)]


def _taken(claims: list[Claim], count: int) -> list[int]:
    """Takes `count` workers, each from whoever has most at that moment and more than one."""
    live = {each.pool: each.live for each in claims if each.serving}
    taken = []
    for _ in range(count):
        richest = max(live, key=lambda pool: live[pool], default=None)
        if richest is None or live[richest] < 2:
            break
        live[richest] -= 1
        taken.append(richest)
    return taken
