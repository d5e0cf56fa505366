"""The scheduler's core: every decision of a job's life, as a pure function of what happened and when.

    event, now ──▶ Machine.handle ──▶ commands          no I/O, no clock, no asyncio, no protos

A job goes PENDING ─▶ RUNNING ─▶ COMMITTING ─▶ SUCCEEDED, or by ENDING to FAILED or CANCELLED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .events import (
    AttemptEnd,
    AttemptsEnded,
    ClosePool,
    Command,
    Commit,
    CreditsGranted,
    Discard,
    Dispatch,
    Event,
    FramesDamaged,
    JobCancelled,
    JobSubmitted,
    MiniBatchesPlanned,
    NodeDraining,
    NodeJoined,
    NodeLost,
    OpenPool,
    OutputCommitted,
    OutputFailed,
    PlanGrew,
    PlanningFailed,
    PoolChanged,
    Settle,
    StreamEnded,
    TellState,
    Ticked,
)
from .model import FINAL, NO_TRY, Failure, FailureKind, JobState, MiniBatch, Pool, PoolPhase, Running, State
from .placement import nodes_to_open, shares
from .thresholds import all_scheduled, exceeded, without_success

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ACTIVE = frozenset({State.PENDING, State.RUNNING})


class Machine:
    """All jobs and nodes, and what shall happen next. `epoch` is the number of this start of the scheduler."""

    def __init__(self, epoch: int) -> None:
        self.jobs: dict[str, JobState] = {}
        self.nodes: dict[str, bool] = {}
        self._next_attempt = epoch << 40
        self._handlers: dict[type[Any], Callable[[Any, float], list[Command]]] = {
            JobSubmitted: self._submitted,
            PlanGrew: self._plan_grew,
            PlanningFailed: self._planning_failed,
            MiniBatchesPlanned: self._planned,
            NodeJoined: self._node_joined,
            NodeDraining: self._node_draining,
            NodeLost: self._node_lost,
            PoolChanged: self._pool_changed,
            StreamEnded: self._stream_ended,
            CreditsGranted: self._credits,
            AttemptsEnded: self._attempts_ended,
            JobCancelled: self._cancelled,
            FramesDamaged: self._frames_damaged,
            OutputCommitted: self._committed,
            OutputFailed: self._output_failed,
            Ticked: self._ticked,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Takes in what happened at monotonic second `now`; returns what shall be done, in order."""
        return self._handlers[type(event)](event, now)

    def forget(self, job_id: str) -> None:
        """Drops a job that has ended."""
        job = self.jobs.get(job_id)
        if job and job.state in FINAL:
            del self.jobs[job_id]

    # ---- jobs ----

    def _submitted(self, event: JobSubmitted, now: float) -> list[Command]:
        job = JobState(event.job_id, event.limits, since=now, counts=event.counts, last_progress=now)
        self.jobs[event.job_id] = job
        return [*self._open_pools(job), *self._judge(job)]

    def _plan_grew(self, event: PlanGrew, now: float) -> list[Command]:
        job = self._active(event.job_id)
        if job is None:
            return []
        counts = job.counts
        counts.planned_mini_batches += event.mini_batches
        counts.planned_items += event.items
        counts.planning_ended = counts.planning_ended or event.ended
        counts.unreadable_mini_batches += event.unreadable
        counts.failed_items += event.unreadable
        job.first_failure = job.first_failure or event.first_unreadable
        return self._judge(job)

    def _planning_failed(self, event: PlanningFailed, now: float) -> list[Command]:
        job = self._active(event.job_id)
        return self._fail(job, event.failure) if job else []

    def _planned(self, event: MiniBatchesPlanned, now: float) -> list[Command]:
        job = self._active(event.job_id)
        if job is None:
            return []
        job.waiting.extend(event.mini_batches)
        return self._dispatch(job, now)

    def _cancelled(self, event: JobCancelled, now: float) -> list[Command]:
        job = self._active(event.job_id)
        if job is None:
            return []
        job.cancelled = True
        return self._end(job)

    # ---- nodes and pools ----

    def _node_joined(self, event: NodeJoined, now: float) -> list[Command]:
        self.nodes[event.node_id] = True
        return [command for job in self._actives() for command in self._open_pools(job)]

    def _node_draining(self, event: NodeDraining, now: float) -> list[Command]:
        if event.node_id not in self.nodes:
            return []
        self.nodes[event.node_id] = False
        commands: list[Command] = []
        for job in self._actives():
            if event.node_id in job.pools:
                job.pools[event.node_id].credits = 0
                commands.append(ClosePool(job.job_id, event.node_id))
        return commands

    def _node_lost(self, event: NodeLost, now: float) -> list[Command]:
        self.nodes.pop(event.node_id, None)
        commands: list[Command] = []
        for job in list(self.jobs.values()):
            job.suspects.pop(event.node_id, None)
            if event.node_id in job.pools:
                commands += [
                    ClosePool(job.job_id, event.node_id, abort=True),
                    *self._pool_gone(job, event.node_id, now),
                ]
        return commands

    def _pool_changed(self, event: PoolChanged, now: float) -> list[Command]:
        job = self._active(event.job_id)
        pool = job.pools.get(event.node_id) if job else None
        if job is None or pool is None:
            return []
        pool.phase, pool.workers = event.phase, event.workers
        if event.phase is PoolPhase.FAILED:
            return self._suspect(job, event, now)
        return []

    def _suspect(self, job: JobState, event: PoolChanged, now: float) -> list[Command]:
        failure = event.failure or Failure(FailureKind.INIT_FAILED, "The pool could not be opened.")
        job.suspects[event.node_id] = failure
        job.first_failure = job.first_failure or failure
        commands: list[Command] = [ClosePool(job.job_id, event.node_id, abort=True)]
        commands += self._pool_gone(job, event.node_id, now)
        commands += self._open_pools(job)
        if job.state in _ACTIVE and not job.pools:
            commands += self._fail(job, failure)
        return commands

    def _stream_ended(self, event: StreamEnded, now: float) -> list[Command]:
        job = self.jobs.get(event.job_id)
        return self._pool_gone(job, event.node_id, now) if job else []

    def _pool_gone(self, job: JobState, node_id: str, now: float) -> list[Command]:
        job.pools.pop(node_id, None)
        back = [attempt for attempt, running in job.running.items() if running.node_id == node_id]
        lost = [job.running.pop(attempt).mini_batch for attempt in back]
        if job.state not in _ACTIVE:
            return []
        job.waiting.extendleft(sorted(lost, key=lambda each: -each.index))
        return self._dispatch(job, now)

    def _credits(self, event: CreditsGranted, now: float) -> list[Command]:
        job = self._active(event.job_id)
        pool = job.pools.get(event.node_id) if job else None
        if job is None or pool is None or not self.nodes.get(event.node_id):
            return []
        pool.credits += event.credits
        return self._dispatch(job, now)

    def _open_pools(self, job: JobState) -> list[Command]:
        if job.state not in _ACTIVE or (all_scheduled(job) and not job.running):
            return []
        opened = nodes_to_open(job, [node for node, ready in self.nodes.items() if ready])
        for node in opened:
            job.pools[node] = Pool()
        return [OpenPool(job.job_id, node) for node in opened]

    # ---- mini-batches ----

    def _dispatch(self, job: JobState, now: float) -> list[Command]:
        if not job.waiting:
            return []
        commands: list[Command] = []
        if not job.running:
            job.last_progress = now
        for node_id, count in shares(job.pools, len(job.waiting)).items():
            pool = job.pools[node_id]
            pool.credits -= count
            pool.open += count
            attempts = [self._attempt(job, node_id) for _ in range(count)]
            commands.append(Dispatch(job.job_id, node_id, attempts))
        if commands and job.state is State.PENDING:
            job.state = State.RUNNING
            commands.append(TellState(job.job_id, State.RUNNING))
        return commands

    def _attempt(self, job: JobState, node_id: str) -> tuple[int, int, int]:
        mini_batch = job.waiting.popleft()
        self._next_attempt += 1
        job.running[self._next_attempt] = Running(mini_batch, node_id)
        return self._next_attempt, mini_batch.index, mini_batch.tries + 1

    def _attempts_ended(self, event: AttemptsEnded, now: float) -> list[Command]:
        job = self.jobs.get(event.job_id)
        if job is None:
            return []
        settled: list[int] = []
        for end in event.ends:
            running = job.running.pop(end.attempt_id, None)
            if running is None:
                continue
            pool = job.pools.get(running.node_id)
            if pool:
                pool.open -= 1
            job.last_progress = now
            if self._settles(job, running.mini_batch, end):
                settled.append(running.mini_batch.index)
        if job.state not in _ACTIVE:
            return []
        commands: list[Command] = [Settle(job.job_id, settled)] if settled else []
        return [*commands, *self._judge(job), *self._dispatch_if_active(job, now)]

    def _dispatch_if_active(self, job: JobState, now: float) -> list[Command]:
        return self._dispatch(job, now) if job.state in _ACTIVE else []

    def _settles(self, job: JobState, mini_batch: MiniBatch, end: AttemptEnd) -> bool:
        """Counts an attempt's end; False when the mini-batch goes back to wait for another one."""
        counts, failure = job.counts, end.failure
        if failure is None:
            counts.succeeded_mini_batches += 1
            counts.succeeded_items += end.succeeded_items
            counts.failed_items += end.failed_items
            counts.rows += end.rows
            return True
        if failure.kind not in NO_TRY:
            job.first_failure = job.first_failure or failure
            mini_batch.tries += 1
        if mini_batch.tries >= job.limits.run_max_try:
            counts.failed_mini_batches += 1
            counts.failed_items += mini_batch.items
            return True
        counts.retried_attempts += failure.kind not in NO_TRY
        job.waiting.appendleft(mini_batch)
        return False

    # ---- judgement and end ----

    def _judge(self, job: JobState) -> list[Command]:
        failure = exceeded(job)
        if failure is None and self._all_settled(job):
            failure = without_success(job)
            if failure is None:
                return self._commit(job)
        return self._fail(job, failure) if failure else []

    @staticmethod
    def _all_settled(job: JobState) -> bool:
        counts = job.counts
        return (
            counts.planning_ended
            and counts.settled >= counts.planned_mini_batches
            and not job.running
            and not job.waiting
        )

    def _commit(self, job: JobState) -> list[Command]:
        job.state = State.COMMITTING
        return [*self._close_pools(job), TellState(job.job_id, State.COMMITTING), Commit(job.job_id)]

    def _fail(self, job: JobState, failure: Failure) -> list[Command]:
        job.error = failure
        return self._end(job)

    def _end(self, job: JobState) -> list[Command]:
        job.state = State.ENDING
        commands = self._close_pools(job, abort=True)
        job.waiting.clear()
        job.running.clear()
        return [*commands, TellState(job.job_id, State.ENDING), Discard(job.job_id)]

    @staticmethod
    def _close_pools(job: JobState, abort: bool = False) -> list[Command]:
        nodes = list(job.pools)
        job.pools.clear()
        return [ClosePool(job.job_id, node, abort) for node in nodes]

    def _frames_damaged(self, event: FramesDamaged, now: float) -> list[Command]:
        job = self.jobs.get(event.job_id)
        if job is None or job.state is not State.COMMITTING:
            return []
        counts, lost = job.counts, event.lost
        counts.succeeded_mini_batches -= lost.succeeded_mini_batches
        counts.succeeded_items -= lost.succeeded_items
        counts.failed_items -= lost.failed_items
        counts.rows -= lost.rows
        job.state, job.last_progress = State.RUNNING, now
        job.waiting.extend(event.mini_batches)
        return [TellState(job.job_id, State.RUNNING), *self._open_pools(job)]

    def _committed(self, event: OutputCommitted, now: float) -> list[Command]:
        job = self.jobs.get(event.job_id)
        if job is None or job.state in FINAL:
            return []
        if job.state is State.ENDING:
            job.state = State.CANCELLED if job.cancelled else State.FAILED
        else:
            job.state = State.SUCCEEDED
        return [TellState(job.job_id, job.state)]

    def _output_failed(self, event: OutputFailed, now: float) -> list[Command]:
        """A commit that cannot be: the job fails, with its report if that can be written."""
        job = self.jobs.get(event.job_id)
        if job is None or job.state in FINAL:
            return []
        if job.state is State.ENDING:
            job.error = job.error or (None if job.cancelled else event.failure)
            return self._committed(OutputCommitted(job.job_id), now)
        return self._fail(job, event.failure)

    # ---- time ----

    def _ticked(self, event: Ticked, now: float) -> list[Command]:
        commands: list[Command] = []
        for job in self._actives():
            commands += self._open_pools(job)
            failure = self._overdue(job, now)
            if failure:
                commands += self._fail(job, failure)
        return commands

    @staticmethod
    def _overdue(job: JobState, now: float) -> Failure | None:
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

    # ---- looking ----

    def _active(self, job_id: str) -> JobState | None:
        job = self.jobs.get(job_id)
        return job if job and job.state in _ACTIVE else None

    def _actives(self) -> Iterable[JobState]:
        return [job for job in self.jobs.values() if job.state in _ACTIVE]


def waiting_for(job: JobState, has_nodes: bool, without_nodes: str = "no node has joined yet") -> str:
    """Why a job is not going faster, in a few words; empty when all is well."""
    if job.state not in _ACTIVE or job.running:
        return ""
    if not has_nodes:
        return without_nodes
    phases = {pool.phase for pool in job.pools.values()}
    if PoolPhase.READY in phases:
        return "" if job.waiting else "the input is being listed"
    if PoolPhase.WARMING in phases:
        return "workers run init()"
    if PoolPhase.WAITING_FOR_SLOTS in phases:
        return "all slots are taken by other jobs"
    if phases:
        return "workers are being prepared"
    return "no node can take it; all are draining or have failed in init()"
