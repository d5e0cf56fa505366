"""Where mini-batches go: which nodes serve a job, and which of its pools gets how many of the next ones."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .model import Belonging, JobState, Pool


def nodes_to_open(job: JobState, nodes: Mapping[str, bool]) -> list[str]:
    """Nodes that shall begin to serve the job now: all that are ready and not suspect, up to its node_count.

    `nodes` says of each whether it is ready. Those that may hold attempts of the job come first, ready or not, and as
    long as they have not come their places are kept for them.
    """
    new = [node for node in nodes if node not in job.pools and node not in job.suspects]
    awaited = [node for node in new if node in job.awaited]
    others = [node for node in new if node not in job.awaited and nodes[node]]
    if job.limits.node_count:
        others = others[: max(0, job.limits.node_count - len(job.awaited.union(job.pools)))]
    return awaited + others


def serving(job: JobState, nodes: Mapping[str, bool], belongings: Mapping[str, Belonging]) -> dict[str, bool]:
    """Of `nodes`, those that may serve the job, by the compute targets that they and it name."""
    return {node: ready for node, ready in nodes.items() if belongings[node].serves(job.limits.compute_target)}


def with_credits(job: JobState) -> dict[str, Pool]:
    """The pools that have credits, without a look at all of a thousand nodes for what one of them has said."""
    found = {node: job.pools[node] for node in job.granted if node in job.pools and job.pools[node].credits > 0}
    job.granted = dict.fromkeys(found)
    return found


def shares(pools: Mapping[str, Pool], waiting: int) -> dict[str, int]:
    """How many of `waiting` mini-batches go to each of these pools, all of which have credits, within those.

    While there is enough for all, each pool gets its whole window. The last ones go one by one to the pool that has the
    fewest open for its workers, so that no node has a queue while another one idles.
    """
    if sum(pool.credits for pool in pools.values()) <= waiting:
        return {node: pool.credits for node, pool in pools.items()}
    return _evenly(pools, waiting)


def _evenly(pools: Mapping[str, Pool], waiting: int) -> dict[str, int]:
    given = dict.fromkeys(pools, 0)
    load = [(pool.open / max(1, pool.workers), node) for node, pool in pools.items()]
    heapq.heapify(load)
    while waiting and load:
        _, node = heapq.heappop(load)
        pool = pools[node]
        given[node] += 1
        waiting -= 1
        if given[node] < pool.credits:
            heapq.heappush(load, ((pool.open + given[node]) / max(1, pool.workers), node))
    return {node: count for node, count in given.items() if count}
