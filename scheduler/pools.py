"""The pools of a job: opened on its nodes, adrift when a stream broke, asked for again, closed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .attempts import bring_back, out_on
from .events import ClosePool, OpenPool
from .model import ACTIVE, Pool
from .placement import nodes_to_open
from .thresholds import all_settled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .events import Command
    from .model import JobState

#: Seconds before a broken stream is opened again: at first, and at most, doubling with each break between.
_FIRST_BACKOFF = 0.25
_LONGEST_BACKOFF = 2.0


def open_new(job: JobState, nodes: Mapping[str, bool]) -> list[Command]:
    """Pools on nodes that shall begin to serve the job now; `nodes` says of each whether it is ready."""
    if job.state not in ACTIVE:
        return []
    opened = nodes_to_open(job, nodes)
    if all_settled(job):
        opened = [node for node in opened if node in job.awaited]
    for node in opened:
        job.pools[node] = Pool()
    return [OpenPool(job.job_id, node) for node in opened]


def broke(pool: Pool, now: float, lease: float) -> None:
    """The node goes on with what it has, for a lease; another stream shall ask for it."""
    if not pool.adrift:
        pool.lapses = now + lease
    pool.adrift, pool.credits = True, 0
    pool.backoff = min(_LONGEST_BACKOFF, 2 * pool.backoff or _FIRST_BACKOFF)
    pool.again = now + pool.backoff


def reopen(job: JobState, now: float) -> list[Command]:
    """Asks for another stream to each node whose stream broke, a while after it did."""
    commands: list[Command] = []
    for node, pool in job.pools.items():
        if pool.adrift and now >= pool.again:
            pool.again = math.inf
            commands.append(OpenPool(job.job_id, node))
    return commands


def give_up(job: JobState, now: float) -> None:
    """What is out on a node that no stream has reached for a lease waits again: the node has ended it by now."""
    for node, pool in job.pools.items():
        if pool.adrift and now >= pool.lapses:
            pool.lapses = math.inf
            bring_back(job, out_on(job, node))


def has_files_out(job: JobState) -> bool:
    """Whether workers of a summary_only job may have files to write at their end, on a node that no stream leads to at
    present: within a lease one does, and ends them in order."""
    if job.limits.needs_rows:
        return False
    return bool(job.awaited) or any(pool.adrift and pool.lapses < math.inf for pool in job.pools.values())


def close_all(job: JobState, abort: bool = False) -> list[Command]:
    nodes = list(job.pools)
    job.pools.clear()
    return [ClosePool(job.job_id, node, abort) for node in nodes]
