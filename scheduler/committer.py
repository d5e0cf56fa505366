"""Brings a job's output to its end: all that is on its way comes to rest, then storage publishes.

planning stopped, streams ended, writes durable ──▶ counts ──▶ CommitOutput ─┬▶ manifest ──▶ OutputCommitted
                                                                             └▶ damaged frames ──▶ FramesDamaged
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import BatchmeshError, DiskFailing, MeshUnreachable, Refused, ServiceFailed

from . import counting, report, tables
from .events import FramesDamaged, OutputCommitted, OutputFailed
from .model import Failure, FailureKind, State
from .store import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .active import ActiveJob
    from .events import Event
    from .publisher import Publisher
    from .store import Store

#: Seconds that agents have to end the streams of a job before its output is committed without waiting for them.
_STREAM_END = 30.0
#: The same for a job whose scripts write files: what they have written at their end may have to be sent to storage.
_FILES_END = 600.0
#: Seconds that a planner has to come to its next mini-batch and stop.
_PLANNING_END = 30.0
#: Times that storage may fail for a reason of its own before the job does; waiting mends no mistake.
_BROKEN = 3


class Committer:
    """`patience`: seconds for which a commit is tried again while storage does not answer, or its disk fails. While it
    answers that it has no room, a commit is tried again for as long as that takes."""

    def __init__(self, store: Store, publisher: Publisher, patience: float, tell: Callable[[Event], None]) -> None:
        self._store = store
        self._publisher = publisher
        self._patience = patience
        self._tell = tell

    async def end(self, job: ActiveJob, report_only: bool) -> None:
        """Has storage write the output and the report; tries for as long as storage may be on its way back."""
        job_id = job.record.row.job_id
        if job.planning:
            await asyncio.to_thread(job.planning.stop, _PLANNING_END)
        await self._streams_ended(job)
        failing_since, wait, broken = None, 0.2, 0
        while (problem := await self._problem(job, report_only)) is not None:
            structlog.get_logger().warning("commit_held_up", job=job_id, why=str(problem))
            now = time.monotonic()
            failing_since = (failing_since or now) if isinstance(problem, MeshUnreachable | DiskFailing) else None
            broken += isinstance(problem, ServiceFailed)
            impatient = failing_since is not None and now - failing_since > self._patience
            if isinstance(problem, Refused) or broken > _BROKEN or impatient:
                self._tell(OutputFailed(job_id, Failure(FailureKind.OUTPUT_FAILED, str(problem))))
                return
            job.record.hold(f"the output cannot be written yet: {problem}")
            await asyncio.sleep(wait)
            wait = min(5.0, wait * 2)

    async def _problem(self, job: ActiveJob, report_only: bool) -> BatchmeshError | None:
        """What keeps storage from publishing; None when it has, or has named damaged frames."""
        try:
            await self._once(job, report_only)
        except StoreFailed:
            raise
        except BatchmeshError as error:
            return error
        return None

    @staticmethod
    async def _streams_ended(job: ActiveJob) -> None:
        """Agents end a stream once logs are shipped and, for summary_only, what shutdown() has written is safe."""
        ends = [asyncio.ensure_future(stream.ended()) for stream in job.streams.values()]
        state = job.record.state
        if ends:
            await asyncio.wait(ends, timeout=_STREAM_END if state is None or state.limits.needs_rows else _FILES_END)

    async def _once(self, job: ActiveJob, report_only: bool) -> None:
        record = job.record
        state = record.state
        assert state is not None, "a job that is being published is active"
        await asyncio.wrap_future(self._store.write([]))  # what was on its way to the disk is there now
        ask = partial(counting.counted, job_id=record.row.job_id, run_max_try=record.spec.run_max_try)
        counts = state.counts = await asyncio.wrap_future(self._store.read(ask))
        if not report_only and counts.settled < counts.planned_mini_batches:
            # A mistake of ours, and worse than any: rows would be missing. Another start runs what is left.
            raise StoreFailed(f"Job {record.row.job_id} was to be committed with {counts} on record.")
        ends_as = State.SUCCEEDED if not report_only else State.CANCELLED if state.cancelled else State.FAILED
        text = report.summary(record, ends_as, counts, state.error)
        response = await self._publisher.commit(record, text, report_only)
        if response.HasField("damaged"):
            await self._reopen(job, list(response.damaged.mini_batch))
            return
        record.hold("")
        record.row.output_path = response.manifest.output_path
        record.row.report_path = response.manifest.report_path
        self._tell(OutputCommitted(record.row.job_id))

    async def _reopen(self, job: ActiveJob, indexes: list[int]) -> None:
        """Damaged frames: what they held runs again, under a new commit."""
        row, again = job.record.row, sorted(set(indexes))  # parts of one mini-batch may be named each
        structlog.get_logger().warning("frames_damaged", job=row.job_id, mini_batches=again[:100])
        number = row.number
        lost = await asyncio.wrap_future(self._store.read(lambda db: counting.counted_of(db, number, again)))
        rows = await asyncio.wrap_future(self._store.read(lambda db: tables.planned(db, number, again)))
        row.round += 1
        await asyncio.wrap_future(self._store.write([*tables.reopen(number, again), *tables.set_state(row)]))
        job.record.hold("")
        self._tell(FramesDamaged(row.job_id, job.feed.reopen(rows), lost))
