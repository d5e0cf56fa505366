"""Why a job does not go on, in words; and when it has not gone on for too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .model import ACTIVE, Failure, FailureKind, PoolPhase

if TYPE_CHECKING:
    from .model import JobState

_PHASES = (
    (PoolPhase.WARMING, "workers run init()"),
    (PoolPhase.WAITING_FOR_SLOTS, "all slots are taken, by other jobs or by workers that are ending"),
)


def waiting_for(job: JobState, has_nodes: bool, without_nodes: str = "no node has joined yet") -> str:
    """Why a job is not going faster, in a few words; empty when all is well."""
    if job.state not in ACTIVE:
        return ""
    held_up = _held_up(job)
    if held_up or job.running:
        return held_up
    if not has_nodes:
        return without_nodes
    if job.planning_held_up and not job.waiting:
        return job.planning_held_up
    if job.awaited:
        return "nodes that served it before tell what they still run"
    if not job.pools:
        return "no node can take it; all are draining or have failed in init()"
    if all(pool.adrift for pool in job.pools.values()):
        return "its nodes cannot be reached; they are tried again"
    return _warming(job)


def _held_up(job: JobState) -> str:
    return next((pool.held_up for pool in job.pools.values() if pool.held_up), "")


def _warming(job: JobState) -> str:
    phases = {pool.phase for pool in job.pools.values()}
    if PoolPhase.READY in phases:
        return "" if job.waiting else "the input is being listed"
    return next((words for phase, words in _PHASES if phase in phases), "workers are being prepared")


def stands_still(job: JobState) -> bool:
    """Whether a named reason keeps attempts that are out from ending: no node, none in reach, workers that warm up, a
    full disk.

    Such a reason has no time limit, or one of its own.
    """
    return bool(_held_up(job)) or all(pool.adrift or pool.phase is not PoolPhase.READY for pool in job.pools.values())


def excuse(job: JobState, now: float) -> None:
    """Moves the limits of what a named reason holds up."""
    if stands_still(job):
        job.last_progress = now
    if job.planning_held_up:
        job.since = now


def overdue(job: JobState, now: float) -> Failure | None:
    """The failure of a job that has not gone on for longer than its limits bear."""
    limits = job.limits
    if job.running and now - job.last_progress > limits.progress_timeout:
        return Failure(
            FailureKind.STALLED,
            f"No mini-batch finished for {limits.progress_timeout:g} s; raise progress_update_timeout if run() "
            "may take that long.",
        )
    if not job.counts.planned_mini_batches and now - job.since > limits.first_timeout:
        return Failure(
            FailureKind.STALLED,
            f"Listing the input gave no mini-batch within {limits.first_timeout:g} s; raise "
            "first_task_creation_timeout if it may take that long.",
        )
    return None
