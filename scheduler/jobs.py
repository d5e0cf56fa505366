"""A job as its clients see it: its row in the database, its live counts, and who watches it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from batchmesh.v1 import job_pb2

from .model import FINAL, Failure, FailureKind, State
from .standstill import waiting_for

if TYPE_CHECKING:
    from .model import JobState
    from .tables import JobRow

#: Seconds between two states told to one watcher, unless the later one is final.
_WATCH_INTERVAL = 0.1
#: Seconds after which a watcher is told the same state again.
_WATCH_REPEAT = 5.0


class JobRecord:
    """One job that runs, or is looked at. `state` is the Machine's while it runs, None for one that has ended."""

    def __init__(self, row: JobRow, state: JobState | None) -> None:
        self.row = row
        self.state = state
        self.spec = job_pb2.JobSpec.FromString(row.spec)
        self.version = 1
        #: Why its output is not written yet, and what troubles the database; empty when nothing does.
        self.holds = ""
        self.trouble = ""
        self._changed: asyncio.Future[None] | None = None

    @property
    def is_final(self) -> bool:
        return State(self.row.state) in FINAL

    def hold(self, why: str) -> None:
        """Says what holds up the job's end; an empty text says that nothing does any more."""
        if why != self.holds:
            self.holds = why
            self.changed()

    def troubled(self, why: str) -> None:
        """Says why the database cannot be written at present; an empty text says that it can."""
        if why != self.trouble:
            self.trouble = why
            self.changed()

    def changed(self) -> None:
        """Wakes all who watch."""
        self.version += 1
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None

    async def wait(self, version: int, seconds: float) -> None:
        """Returns once the job's version is above `version`, at the latest after `seconds`."""
        if self.version > version:
            return
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._changed], timeout=seconds)

    async def next_told(self, version: int, since: float) -> None:
        """Waits until a watcher who was told `version` at loop time `since` shall be told again."""
        loop = asyncio.get_running_loop()
        await self.wait(version, since + _WATCH_REPEAT - loop.time())
        while not self.is_final and (left := since + _WATCH_INTERVAL - loop.time()) > 0:
            await self.wait(self.version, left)

    def snapshot(self, has_nodes: bool, without_nodes: str) -> job_pb2.Job:
        """The whole state of the job now; `without_nodes` is what it waits for when no node has joined."""
        row = self.row
        job = job_pb2.Job(
            job_id=row.job_id,
            spec=self.spec,
            state=job_pb2.Job.State.ValueType(row.state),
            progress=self.progress(),
            submitted=timestamp(row.submitted),
            output_path=row.output_path,
            report_path=row.report_path,
            version=self.version,
            reused_from=row.reused_from,
            not_reused=row.not_reused,
        )
        if row.started:
            job.started.CopyFrom(timestamp(row.started))
        if row.ended:
            job.ended.CopyFrom(timestamp(row.ended))
        error, first = self.failures()
        if error:
            job.error.CopyFrom(error)
        if first:
            job.first_failure.CopyFrom(first)
        if not self.is_final:
            standing = waiting_for(self.state, has_nodes, without_nodes) if self.state is not None else ""
            job.waiting_for = self.trouble or self.holds or standing
        return job

    def first_failure(self) -> Failure | None:
        """The first failure as its row has it."""
        first = self.row.first_failure
        return failure_of(job_pb2.Failure.FromString(first)) if first else None

    def error(self) -> Failure | None:
        """Why it failed, or is about to, as its row has it."""
        return failure_of(job_pb2.Failure.FromString(self.row.error)) if self.row.error else None

    def failures(self) -> tuple[job_pb2.Failure | None, job_pb2.Failure | None]:
        """The job's error and its first failure, from the Machine while it runs, else from its row."""
        if self.state is not None:
            told = (self.state.error, self.state.first_failure)
            return failure_proto(told[0]) if told[0] else None, failure_proto(told[1]) if told[1] else None
        error, first = self.row.error, self.row.first_failure
        return (
            job_pb2.Failure.FromString(error) if error else None,
            job_pb2.Failure.FromString(first) if first else None,
        )

    def progress(self) -> job_pb2.Progress:
        if self.state is None:
            return job_pb2.Progress.FromString(self.row.progress or b"")
        counts = self.state.counts
        return job_pb2.Progress(
            planned_mini_batches=counts.planned_mini_batches,
            planned_items=counts.planned_items,
            planning_ended=counts.planning_ended,
            succeeded_mini_batches=counts.succeeded_mini_batches,
            failed_mini_batches=counts.failed_mini_batches,
            unreadable_mini_batches=counts.unreadable_mini_batches,
            running_mini_batches=len(self.state.running),
            succeeded_items=counts.succeeded_items,
            failed_items=counts.failed_items,
            rows=counts.rows,
            retried_attempts=counts.retried_attempts,
            nodes=len(self.state.pools),
            workers=sum(pool.workers for pool in self.state.pools.values()),
        )

    def frozen(self) -> JobRow:
        """The row with what the Machine knows in it, to be made durable with a new state."""
        error, first = self.failures()
        return replace(
            self.row,
            error=error.SerializeToString() if error else None,
            first_failure=first.SerializeToString() if first else None,
            progress=self.progress().SerializeToString(),
        )


def timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1e6))
    return stamp


def failure_proto(failure: Failure) -> job_pb2.Failure:
    kind = job_pb2.Failure.Kind.ValueType(int(failure.kind))
    return job_pb2.Failure(kind=kind, message=failure.message, traceback=failure.traceback)


def failure_of(proto: job_pb2.Failure) -> Failure:
    return Failure(FailureKind(proto.kind or FailureKind.ENVIRONMENT), proto.message, proto.traceback)
