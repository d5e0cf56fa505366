"""The scheduler's core: every decision of a job's life, as a pure function of what happened and when.

    event, now ──▶ Machine.handle ──▶ commands          no I/O, no clock, no asyncio, no protos

A job goes PENDING ─▶ RUNNING ─▶ COMMITTING ─▶ SUCCEEDED, or by ENDING to FAILED or CANCELLED.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from . import attempts, pools
from .events import (
    Abort,
    AttemptsEnded,
    AttemptsHeld,
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
    OutputCommitted,
    OutputFailed,
    PlanGrew,
    PlanningFailed,
    PlanningHeldUp,
    PoolChanged,
    RecordLoss,
    StreamEnded,
    TellState,
    Ticked,
)
from .model import ACTIVE, FINAL, Belonging, Failure, FailureKind, JobState, MiniBatch, PoolPhase, State
from .placement import serving, shares, with_credits
from .settling import Settling
from .standstill import excuse, overdue
from .stragglers import free_node, stragglers
from .takeover import open_again, take_over
from .thresholds import all_settled, exceeded, without_success

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Machine:
    """All jobs and nodes, and what shall happen next.

    `epoch` is the number of this start of the scheduler, `lease` for how many seconds a node goes on without a stream.
    """

    def __init__(self, epoch: int, lease: float = 15.0) -> None:
        self.jobs: dict[str, JobState] = {}
        self.nodes: dict[str, bool] = {}
        self._belongings: dict[str, Belonging] = {}
        self._lease = lease
        self._next_attempt = epoch << 40
        self._handlers: dict[type[Any], Callable[[Any, float], list[Command]]] = {
            JobSubmitted: self._submitted,
            PlanGrew: self._plan_grew,
            PlanningFailed: self._planning_failed,
            PlanningHeldUp: self._planning_held_up,
            MiniBatchesPlanned: self._planned,
            AttemptsHeld: self._held,
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
        if event.expected_nodes:
            job.awaited, job.awaited_until = set(event.expected_nodes), now + event.patience
        job.first_failure = event.first_failure
        self.jobs[event.job_id] = job
        if event.ended_by is not None:
            return self._fail(job, event.ended_by)
        return [*self._open_new(job), *self._judge(job)]

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

    def _planning_held_up(self, event: PlanningHeldUp, now: float) -> list[Command]:
        if job := self._active(event.job_id):
            job.planning_held_up = event.why
        return []

    def _planned(self, event: MiniBatchesPlanned, now: float) -> list[Command]:
        job = self._active(event.job_id)
        if job is None:
            return []
        settling = Settling(job)
        for isolation in event.isolations:
            settling.isolation_found(isolation)
        job.waiting.extend(event.mini_batches)
        return [*self._settled(job, settling), *self._dispatch_if_active(job, now)]

    def _cancelled(self, event: JobCancelled, now: float) -> list[Command]:
        job = self._active(event.job_id)
        if job is None:
            return []
        job.cancelled = True
        return self._end(job)

    # ---- nodes ----

    def _node_joined(self, event: NodeJoined, now: float) -> list[Command]:
        self.nodes[event.node_id], self._belongings[event.node_id] = True, event.belonging
        return [command for job in self._actives() for command in self._open_new(job)]

    def _node_draining(self, event: NodeDraining, now: float) -> list[Command]:
        """What is adrift there is asked for first, and closed after that."""
        if event.node_id not in self.nodes:
            return []
        self.nodes[event.node_id] = False
        commands: list[Command] = []
        for job in self._actives():
            pool = job.pools.get(event.node_id)
            if pool is not None and not pool.adrift:
                pool.credits = 0
                commands.append(ClosePool(job.job_id, event.node_id))
        return commands

    def _node_lost(self, event: NodeLost, now: float) -> list[Command]:
        node_id = event.node_id
        self.nodes.pop(node_id, None)
        self._belongings.pop(node_id, None)
        commands: list[Command] = []
        for job in list(self.jobs.values()):
            job.suspects.pop(node_id, None)
            job.awaited.discard(node_id)
            if node_id in job.pools:
                losses = [] if event.left else attempts.count_losses(job, node_id)
                commands += [RecordLoss(job.job_id, attempt, node_id, failure) for attempt, failure in losses]
                commands.append(ClosePool(job.job_id, node_id, abort=True))
            commands += self._pool_gone(job, node_id, now)
        return commands

    # ---- pools ----

    def _open_new(self, job: JobState) -> list[Command]:
        return pools.open_new(job, serving(job, self.nodes, self._belongings))

    def _pool_changed(self, event: PoolChanged, now: float) -> list[Command]:
        job = self._active(event.job_id)
        pool = job.pools.get(event.node_id) if job else None
        if job is None or pool is None:
            return []
        pool.phase, pool.workers, pool.held_up = event.phase, event.workers, event.held_up
        if event.phase is PoolPhase.FAILED:
            return self._suspect(job, event, now)
        return []

    def _suspect(self, job: JobState, event: PoolChanged, now: float) -> list[Command]:
        failure = event.failure or Failure(FailureKind.INIT_FAILED, "The pool could not be opened.")
        job.suspects[event.node_id] = failure
        job.first_failure = job.first_failure or failure
        commands: list[Command] = [ClosePool(job.job_id, event.node_id, abort=True)]
        commands += self._pool_gone(job, event.node_id, now)
        commands += self._open_new(job)
        if job.state in ACTIVE and not job.awaited:
            commands += self._judge_suspects(job)
        return commands

    def _judge_suspects(self, job: JobState) -> list[Command]:
        """With no other node left, the job fails as the last one did."""
        if job.pools or not job.suspects:
            return []
        return self._fail(job, list(job.suspects.values())[-1])

    def _stream_ended(self, event: StreamEnded, now: float) -> list[Command]:
        job = self.jobs.get(event.job_id)
        if job is None:
            return []
        pool = job.pools.get(event.node_id)
        if event.broken and pool is not None and event.node_id in self.nodes:
            pools.broke(pool, now, self._lease)
            return []
        if not event.broken:
            job.awaited.discard(event.node_id)
        return self._pool_gone(job, event.node_id, now)

    def _pool_gone(self, job: JobState, node_id: str, now: float) -> list[Command]:
        if job.pools.pop(node_id, None) is not None:
            attempts.bring_back(job, attempts.out_on(job, node_id))
        return self._dispatch_if_active(job, now)

    def _held(self, event: AttemptsHeld, now: float) -> list[Command]:
        job, node_id = self._active(event.job_id), event.node_id
        if job is None:
            return []
        settling = Settling(job)
        for isolation in event.isolations:
            settling.isolation_found(isolation)
        open_again(job, event.opened)
        commands: list[Command] = []
        if node_id in job.pools:
            commands = self._taken_over(job, event, now)
        return [*commands, *self._running(job), *self._settled(job, settling), *self._dispatch_if_active(job, now)]

    def _taken_over(self, job: JobState, event: AttemptsHeld, now: float) -> list[Command]:
        node_id = event.node_id
        pool = job.pools[node_id]
        pool.adrift, pool.backoff = False, 0.0
        job.awaited.discard(node_id)
        unwanted = take_over(job, node_id, event.attempts, now)
        commands: list[Command] = [Abort(job.job_id, node_id, unwanted)] if unwanted else []
        if not self.nodes.get(node_id):
            commands.append(ClosePool(job.job_id, node_id))
        return commands

    def _credits(self, event: CreditsGranted, now: float) -> list[Command]:
        job = self._active(event.job_id)
        pool = job.pools.get(event.node_id) if job else None
        if job is None or pool is None or pool.adrift or not self.nodes.get(event.node_id):
            return []
        pool.credits += event.credits
        job.granted[event.node_id] = None
        return self._dispatch(job, now)

    # ---- mini-batches ----

    def _dispatch(self, job: JobState, now: float) -> list[Command]:
        if not job.waiting or job.awaited:
            return []
        commands: list[Command] = []
        if not job.running:
            job.last_progress = now
        for node_id, count in shares(with_credits(job), len(job.waiting)).items():
            pool = job.pools[node_id]
            pool.credits -= count
            pool.open += count
            commands.append(Dispatch(job.job_id, node_id, [self._attempt(job, node_id, now) for _ in range(count)]))
        return [*commands, *self._running(job)] if commands else commands

    def _attempt(self, job: JobState, node_id: str, now: float) -> tuple[int, MiniBatch]:
        mini_batch = job.waiting.popleft()
        self._next_attempt = attempt = self._next_attempt + 1
        attempts.begin(job, attempt, mini_batch, node_id, now)
        return attempt, mini_batch

    @staticmethod
    def _running(job: JobState) -> list[Command]:
        """Says once that a job has begun to run."""
        if job.state is not State.PENDING or not job.running:
            return []
        job.state = State.RUNNING
        return [TellState(job.job_id, State.RUNNING)]

    def _attempts_ended(self, event: AttemptsEnded, now: float) -> list[Command]:
        job = self.jobs.get(event.job_id)
        if job is None:
            return []
        settling = Settling(job)
        for end in event.ends:
            settling.attempt_ended(end)
        if settling.progress:
            job.last_progress = now
        if job.state not in ACTIVE:
            return []
        return [*self._settled(job, settling), *self._dispatch_if_active(job, now)]

    def _settled(self, job: JobState, settling: Settling) -> list[Command]:
        return [*settling.commands(), *self._judge(job)]

    def _dispatch_if_active(self, job: JobState, now: float) -> list[Command]:
        return self._dispatch(job, now) if job.state in ACTIVE else []

    def _back_up(self, job: JobState, now: float) -> list[Command]:
        """Runs what takes far longer than the others a second time, where a worker is free."""
        commands: list[Command] = []
        for attempt in stragglers(job, now):
            node_id = free_node(job, not_here=job.running[attempt].node_id)
            if node_id is None:
                break
            self._next_attempt += 1
            mini_batch = attempts.double(job, attempt, self._next_attempt, node_id, now)
            job.pools[node_id].credits -= 1
            job.pools[node_id].open += 1
            commands.append(Dispatch(job.job_id, node_id, [(self._next_attempt, mini_batch)]))
        return commands

    # ---- judgement and end ----

    def _judge(self, job: JobState) -> list[Command]:
        failure = exceeded(job)
        if failure is None and all_settled(job):
            failure = without_success(job)
            if failure is None:
                return [] if pools.has_files_out(job) else self._commit(job)
        return self._fail(job, failure) if failure else []

    def _commit(self, job: JobState) -> list[Command]:
        job.state = State.COMMITTING
        return [*pools.close_all(job), TellState(job.job_id, State.COMMITTING), Commit(job.job_id)]

    def _fail(self, job: JobState, failure: Failure) -> list[Command]:
        job.error = failure
        return self._end(job)

    def _end(self, job: JobState) -> list[Command]:
        job.state = State.ENDING
        commands = pools.close_all(job, abort=True)
        attempts.drop_all(job)
        return [*commands, TellState(job.job_id, State.ENDING), Discard(job.job_id)]

    def _frames_damaged(self, event: FramesDamaged, now: float) -> list[Command]:
        job = self.jobs.get(event.job_id)
        if job is None or job.state is not State.COMMITTING:
            return []
        job.counts.take_back(event.lost)
        job.state, job.last_progress = State.RUNNING, now
        job.waiting.extend(event.mini_batches)
        return [TellState(job.job_id, State.RUNNING), *self._open_new(job)]

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
        return [command for job in self._actives() for command in self._job_ticked(job, now)]

    def _job_ticked(self, job: JobState, now: float) -> list[Command]:
        if now >= job.awaited_until:
            job.awaited_until = math.inf
            job.awaited.clear()
            if failed := self._judge_suspects(job):
                return failed
        pools.give_up(job, now)
        commands = [*self._open_new(job), *pools.reopen(job, now)]
        commands += [*self._dispatch(job, now), *self._back_up(job, now)]
        excuse(job, now)
        failure = overdue(job, now)
        if failure is None:
            return [*commands, *self._judge(job)]
        return [*commands, *self._fail(job, failure)]

    # ---- looking ----

    def _active(self, job_id: str) -> JobState | None:
        job = self.jobs.get(job_id)
        return job if job and job.state in ACTIVE else None

    def _actives(self) -> Iterable[JobState]:
        return [job for job in self.jobs.values() if job.state in ACTIVE]
