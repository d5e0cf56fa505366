"""Going on with a job that has ended: whether it can, and what of it is open again.

As it is:     what is not settled runs; what failed for good stays failed.
With failed:  what has failed items runs again with fresh tries, a mini-batch that was split only in its failed parts.
Never:        files that planning could not read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .model import JobState, State
from .thresholds import all_settled, exceeded, without_success

if TYPE_CHECKING:
    from .model import Counts, Limits
    from .store import Database

_RESUMABLE = frozenset({State.FAILED, State.CANCELLED, State.LOST})


def refusal(job_id: str, state: State, limits: Limits, counts: Counts, failed_outcomes: int, failed: bool) -> str:
    """Why the job cannot go on, in one sentence; empty when it can.

    `counts` are those at its end, `failed_outcomes` how many of its outcomes have failed items, `failed` whether those
    shall run again.
    """
    if state not in _RESUMABLE and not (failed and state is State.SUCCEEDED):
        more = "; add --failed to run what failed of it again" if state is State.SUCCEEDED else ""
        return f"Job {job_id} is {state.name}; only one that failed, was cancelled or lost goes on{more}."
    if not failed:
        return _again_at_once(job_id, limits, counts, "Run them again with --failed, or bear more with")
    if not failed_outcomes:
        return _nothing_failed(job_id, state, counts)
    reopened = replace(counts, failed_mini_batches=0, failed_items=counts.unreadable_mini_batches)
    return _again_at_once(job_id, limits, reopened, "Files that cannot be read stay failed; bear them with")


def _again_at_once(job_id: str, limits: Limits, counts: Counts, remedy: str) -> str:
    job = JobState(job_id, limits, since=0.0, counts=counts)
    failure = exceeded(job)
    if failure is None and all_settled(job):
        failure = without_success(job)
    return f"Job {job_id} would fail again at once: {failure.message} {remedy} --error-threshold." if failure else ""


def _nothing_failed(job_id: str, state: State, counts: Counts) -> str:
    if counts.unreadable_mini_batches:
        return f"Of job {job_id} only files that cannot be read have failed; submit another job once they are repaired."
    without = "" if state is State.SUCCEEDED else f"; `batchmesh resume {job_id}` without --failed runs what is left"
    return f"Nothing of job {job_id} has failed{without}."


def failed_outcomes(db: Database, number: int) -> int:
    """How many outcomes of the job have failed items: attempts that failed, short returns, rows that are unreadable."""
    sql = "SELECT count(*) FROM outcomes WHERE job = ? AND (failure IS NOT NULL OR failed > 0)"
    count: int = db.execute(sql, (number,)).fetchone()[0]
    return count
