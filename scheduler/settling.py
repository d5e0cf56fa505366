"""What the ends of attempts come to: counts, another try, a search for the bad items, or a failure for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import isolation
from .attempts import part_twins, take, wait_first
from .events import Abort, Seal, Settle
from .model import CRASHES, FailureKind

if TYPE_CHECKING:
    from .events import AttemptEnd, Command
    from .isolation import Isolation
    from .model import Failure, JobState, MiniBatch


class Settling:
    """The ends that came at once, of one job; `progress` is whether one of them was of an attempt that was out."""

    def __init__(self, job: JobState) -> None:
        self._job = job
        self._settled: list[int] = []
        self._sealed: list[int] = []
        self._aborts: list[Command] = []
        self.progress = False

    def attempt_ended(self, end: AttemptEnd) -> None:
        job = self._job
        running = take(job, end.attempt_id)
        if running is None:
            return
        self.progress = True
        twin = part_twins(job, end.attempt_id) if job.twins else 0
        if end.failure is not None:
            self._failed(running.mini_batch, end, end.failure, twin)
            if running.doubled and running.mini_batch.index in self._settled:
                # Of two failures that came at once, neither row in the database knows of the other.
                self._sealed.append(running.mini_batch.index)
            return
        if twin:
            self._abort(twin)
        if running.mini_batch.level:
            self._part_ended(running.mini_batch, end)
            return
        counts = job.counts
        counts.succeeded_mini_batches += 1
        counts.succeeded_items += end.succeeded_items
        counts.failed_items += end.failed_items
        counts.rows += end.rows
        job.elapsed.append(end.elapsed)
        self._settled.append(running.mini_batch.index)

    def isolation_found(self, found: Isolation) -> None:
        """Goes on with an isolation that an earlier life of the scheduler began."""
        if found.index not in self._job.isolations:
            self._job.isolations[found.index] = found
            self._level_begun(found)

    def commands(self) -> list[Command]:
        commands, job_id = self._aborts, self._job.job_id
        if self._sealed:
            commands.append(Seal(job_id, self._sealed))
        if self._settled:
            commands.append(Settle(job_id, self._settled))
        return commands

    def _failed(self, mini_batch: MiniBatch, end: AttemptEnd, failure: Failure, twin: int) -> None:
        job = self._job
        mini_batch.ended = max(mini_batch.ended, end.attempt_id)
        if failure.kind is FailureKind.NOT_STARTED:
            if not twin:
                job.waiting.appendleft(mini_batch)
            return
        job.first_failure = job.first_failure or failure
        mini_batch.tries += 1
        mini_batch.crashed |= failure.kind in CRASHES
        if mini_batch.level:
            self._part_ended(mini_batch, end)
        elif twin:
            job.counts.retried_attempts += 1
        elif mini_batch.tries < job.limits.run_max_try:
            job.counts.retried_attempts += 1
            job.waiting.appendleft(mini_batch)
        elif isolation.splits(job.limits, mini_batch, failure):
            job.isolations[mini_batch.index] = begun = isolation.begin(mini_batch)
            self._level_begun(begun)
        else:
            job.counts.failed_mini_batches += 1
            job.counts.failed_items += mini_batch.items
            self._settled.append(mini_batch.index)

    def _abort(self, attempt_id: int) -> None:
        """Ends the slower of two attempts; what comes of it counts nothing."""
        slower = take(self._job, attempt_id)
        if slower is not None and slower.node_id in self._job.pools:
            self._aborts.append(Abort(self._job.job_id, slower.node_id, [attempt_id]))

    # ---- parts ----

    def _part_ended(self, part: MiniBatch, end: AttemptEnd) -> None:
        self._job.counts.retried_attempts += 1
        split = self._job.isolations[part.index]
        isolation.part_ended(split, part, end)
        if not split.open:
            isolation.next_level(split)
            self._level_begun(split)

    def _level_begun(self, split: Isolation) -> None:
        if split.open:
            wait_first(self._job, split.open)
        else:
            self._isolation_ended(split)

    def _isolation_ended(self, split: Isolation) -> None:
        """Only now does anything of the mini-batch count, whole as it was planned."""
        counts = self._job.counts
        del self._job.isolations[split.index]
        counts.succeeded_items += split.succeeded_items
        counts.failed_items += split.failed_items
        counts.rows += split.rows
        if split.failed_parts:
            counts.failed_mini_batches += 1
        else:
            counts.succeeded_mini_batches += 1
        self._sealed.append(split.index)
        self._settled.append(split.index)
