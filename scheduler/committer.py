"""Brings a job's output to its end: all that is on its way comes to rest, then storage publishes.

planning stopped, streams ended, writes durable ──▶ counts ──▶ CommitOutput ─┬▶ manifest ──▶ OutputCommitted
                                                                             └▶ damaged frames ──▶ FramesDamaged
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import BatchmeshError, Refused, ServiceFailed

from . import report, tables
from .events import FramesDamaged, OutputCommitted, OutputFailed
from .model import Failure, FailureKind, MiniBatch, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from .active import ActiveJob
    from .events import Event
    from .publisher import Publisher
    from .store import Store

#: Seconds that agents have to end the streams of a job before its output is committed without waiting for them.
_STREAM_END = 30.0
#: Seconds that a planner has to come to its next mini-batch and stop.
_PLANNING_END = 30.0
#: Times that storage may fail for a reason of its own before the job does; waiting mends no mistake.
_BROKEN = 3


class Committer:
    """`patience`: seconds for which a commit is tried again while storage does not answer or has no room."""

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
        deadline = time.monotonic() + self._patience
        wait, broken = 0.2, 0
        while True:
            try:
                await self._once(job, report_only)
            except (BatchmeshError, sqlite3.Error) as error:
                problem: Exception = error
            else:
                return
            structlog.get_logger().warning("commit_held_up", job=job_id, why=str(problem))
            broken += isinstance(problem, ServiceFailed)
            if isinstance(problem, Refused) or broken > _BROKEN or time.monotonic() > deadline:
                self._tell(OutputFailed(job_id, Failure(FailureKind.OUTPUT_FAILED, str(problem))))
                return
            job.record.hold(f"the output cannot be written yet: {problem}")
            await asyncio.sleep(wait)
            wait = min(5.0, wait * 2)

    @staticmethod
    async def _streams_ended(job: ActiveJob) -> None:
        """Agents end a stream once logs are shipped and, for summary_only, shutdown() has written its files."""
        ends = [asyncio.ensure_future(stream.ended()) for stream in job.streams.values()]
        if ends:
            await asyncio.wait(ends, timeout=_STREAM_END)

    async def _once(self, job: ActiveJob, report_only: bool) -> None:
        record = job.record
        state = record.state
        assert state is not None, "a job that is being published is active"
        await asyncio.wrap_future(self._store.write([]))  # what was on its way to the disk is there now
        counts = await asyncio.wrap_future(self._store.read(partial(tables.counted, job_id=record.row.job_id)))
        state.counts = counts
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
        row = job.record.row
        structlog.get_logger().warning("frames_damaged", job=row.job_id, mini_batches=indexes[:100])
        number = row.number
        lost = await asyncio.wrap_future(self._store.read(lambda db: tables.counted_of(db, number, indexes)))
        again = await asyncio.wrap_future(self._store.read(lambda db: tables.planned(db, number, indexes)))
        row.round += 1
        await asyncio.wrap_future(self._store.write([*tables.reopen(number, indexes), *tables.set_state(row)]))
        for index, _, affinity, payload in again:
            job.payloads[index] = (payload, affinity)
        mini_batches = [MiniBatch(index, items) for index, items, _, _ in again]
        self._tell(FramesDamaged(row.job_id, mini_batches, lost))
