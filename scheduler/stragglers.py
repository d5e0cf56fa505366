"""What has been out for far longer than the others of its job, and where to run it a second time.

Only at the tail of a job, when its workers would idle otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .thresholds import all_scheduled

if TYPE_CHECKING:
    from .model import JobState, Pool, Running

#: So many times the median of the others, and at least so many seconds.
_FACTOR = 3.0
_LEAST = 1.0
#: Good ends from which on the median says something.
_KNOWN = 5


def stragglers(job: JobState, now: float) -> list[int]:
    """Attempts that deserve a second one beside them, longest out first."""
    if not _has_backups(job) or job.waiting or job.awaited or len(job.elapsed) < _KNOWN or not all_scheduled(job):
        return []
    from statistics import median  # fractions and decimal come along, which the scheduler's start need not wait for

    since = now - max(_LEAST, _FACTOR * median(job.elapsed))
    late = [attempt for attempt, running in job.running.items() if running.since < since and _may_double(running)]
    return sorted(late, key=lambda attempt: job.running[attempt].since)


def free_node(job: JobState, not_here: str) -> str | None:
    """The node with a free worker that has least to do; `not_here` only if no other one has."""
    free = [node for node, pool in job.pools.items() if pool.credits > 0 and pool.open < pool.workers]
    return min(free, key=lambda node: (node == not_here, _load(job.pools[node])), default=None)


def _has_backups(job: JobState) -> bool:
    if job.limits.backup_attempts is None:
        return job.limits.needs_rows and len(job.pools) > 1
    return job.limits.backup_attempts


def _may_double(running: Running) -> bool:
    mini_batch = running.mini_batch
    return not (running.doubled or mini_batch.crashed or mini_batch.lost or mini_batch.level)


def _load(pool: Pool) -> float:
    return pool.open / max(1, pool.workers)
