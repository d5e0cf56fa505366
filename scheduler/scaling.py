"""How many nodes a local compute target should have: between its bounds, as its jobs need them, and no sooner fewer
than after its idle time.

    active jobs ──Need──▶ needed ──▶ resized ──▶ Size, told to the supervisor

Jobs share nodes, whose slots they share, so that the job that needs most says how many there are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Bounds(NamedTuple):
    """What a target was made with; `slots` are the workers of each of its nodes, at least 1."""

    min_nodes: int
    max_nodes: int
    idle_seconds: float
    slots: int


class Need(NamedTuple):
    """What one active job of the target has left to run: mini-batches that are planned and not settled.

    `node_count` and `processes` (a node) are its settings; 0 takes all there are.
    """

    mini_batches: int
    planning: bool
    node_count: int = 0
    processes: int = 0


class Size(NamedTuple):
    """How many nodes there should be; they stay until monotonic second `until`, if nobody needs them."""

    nodes: int
    until: float


def needed(jobs: Iterable[Need], bounds: Bounds) -> int:
    """How many nodes have something to do, whatever the bounds on their number say."""
    return max((_needed(job, bounds.slots) for job in jobs), default=0)


def _needed(job: Need, slots: int) -> int:
    """No more nodes than have a mini-batch for each worker; one to begin with while the input is being listed."""
    workers = min(job.processes or slots, slots)
    nodes = max(math.ceil(job.mini_batches / workers), int(job.planning))
    return min(nodes, job.node_count) if job.node_count else nodes


def resized(before: Size, bounds: Bounds, need: int, now: float) -> Size:
    """The size at monotonic second `now`: more at once, fewer when all of it has not been needed for the idle time."""
    wanted = min(bounds.max_nodes, max(bounds.min_nodes, need))
    here = min(bounds.max_nodes, before.nodes)
    if wanted >= here or now >= before.until:
        return Size(wanted, now + bounds.idle_seconds)
    return Size(here, min(before.until, now + bounds.idle_seconds))
