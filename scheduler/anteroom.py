"""Jobs that are accepted and not in motion yet: the Machine has not heard of them.

    accepted ──▶ WAITING for its predecessors ──▶ PENDING: input checked, an earlier output looked for ──▶ Machine
                     │                                │                            └▶ COMMITTING ▶ SUCCEEDED
                     └──────── FAILED, CANCELLED ◀────┘

Each state is durable before it is told, and each step can be done again: a scheduler that starts again brings a job
back here, to the first step.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import BatchmeshError, MeshUnreachable
from batchmesh.v1 import job_pb2

from . import after, tables
from .checking import check_input
from .events import JobCancelled
from .jobs import failure_proto
from .model import Failure, FailureKind, State
from .spec import KIND_NUMBERS

if TYPE_CHECKING:
    from .dispatcher import Dispatcher
    from .jobs import JobRecord
    from .publisher import Publisher
    from .reusing import Reusing
    from .store import Statement, Store
    from .tables import JobRow

#: Seconds after which predecessors are looked at again, even if nothing was heard of them.
_LOOK_AGAIN = 60.0
#: Seconds after which storage is asked again, when it did not answer; and for which it is asked to take a folder back.
_ASK_AGAIN, _PATIENCE = 1.0, 600.0


@dataclass(eq=False)
class Entrant:
    """A job in here. `wake` is set when one of its predecessors has ended, or it is to be cancelled."""

    record: JobRecord
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False


class Anteroom:
    """Keeps jobs until they may begin, then hands them to the dispatcher, of which it hears which jobs have ended."""

    def __init__(self, store: Store, dispatcher: Dispatcher, publisher: Publisher, reusing: Reusing) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._reusing = reusing
        self._jobs: dict[str, Entrant] = {}
        dispatcher.on_end = self.ended

    def get(self, job_id: str) -> JobRecord | None:
        job = self._jobs.get(job_id)
        return job.record if job is not None else None

    def enter(self, record: JobRecord) -> None:
        """Brings a job that is in the database, and was not let in, on its way."""
        job = self._jobs[record.row.job_id] = Entrant(record, cancelled=bool(record.row.cancelled))
        self._dispatcher.spawn(self._bring(job))

    async def cancel(self, job_id: str) -> bool:
        """Has a job that is not COMMITTING end as CANCELLED; returns whether it was here, once that is durable."""
        job = self._jobs.get(job_id)
        if job is None:
            return False
        job.cancelled = True  # first, so that whatever is written of the job from now on says so
        await asyncio.wrap_future(self._store.write(tables.cancel(job.record.row.number)))
        job.wake.set()
        return True

    def ended(self, job_id: str) -> None:
        """That job has ended: who waits for it looks what that means."""
        for job in self._jobs.values():
            if job_id in job.record.spec.after:
                job.wake.set()

    # ---- the way of a job ----

    async def _bring(self, job: Entrant) -> None:
        if await self._has_gone_on(job):
            return
        failure = await self._predecessors_ended(job) or await self._checked(job)
        if failure is None and await self._has_taken(job):
            return
        if job.cancelled:
            await self._end(job, State.CANCELLED)
        elif failure is not None:
            await self._end(job, State.FAILED, failure)
        else:
            await self._let_in(job)

    async def _has_gone_on(self, job: Entrant) -> bool:
        """Whether the job has ended with the output that the scheduler before this one was taking: it may be published,
        so that no other one is looked for."""
        row = job.record.row
        if job.cancelled or row.state != State.COMMITTING or not row.reused_from:
            return False
        why = await self._take(job, row.reused_from, row.progress or b"")
        if not job.record.is_final:
            await self._write(job, _not_taking(job.record.row, why))
        return job.record.is_final

    async def _predecessors_ended(self, job: Entrant) -> Failure | None:
        while not job.cancelled:
            job.wake.clear()
            found = await self._predecessors(job.record.row.number)
            failure, awaited = after.failure(found), after.awaited(found)
            if failure or not awaited:
                return failure
            job.record.hold(awaited)
            with suppress(TimeoutError):
                await asyncio.wait_for(job.wake.wait(), _LOOK_AGAIN)
        return None

    async def failure(self, number: int) -> Failure | None:
        """Why that job cannot begin: a job that it comes after did not succeed."""
        return after.failure(await self._predecessors(number))

    async def _predecessors(self, number: int) -> list[after.Predecessor]:
        rows = await asyncio.wrap_future(self._store.read(partial(after.predecessors, number=number)))
        return [predecessor_of(*row) for row in rows]

    async def _checked(self, job: Entrant) -> Failure | None:
        """Looks at an input that was not there when the job was submitted."""
        job.record.hold("")
        kind = job.record.row.input_kind
        while not kind and not job.cancelled:
            found = await self._kind(job)
            if isinstance(found, Failure):
                return found
            kind = found
        if not job.cancelled:
            await self._write(job, replace(job.record.row, state=int(State.PENDING), input_kind=kind))
        return None

    async def _kind(self, job: Entrant) -> int | Failure:
        """The kind of its input as a number; 0 when that has to be asked again, since storage was away."""
        try:
            kind = await check_input(job.record.spec, self._dispatcher.datastores)
        except MeshUnreachable as error:
            job.record.hold(str(error))
            job.wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(job.wake.wait(), _ASK_AGAIN)
            job.record.hold("")
            return 0
        except (OSError, ValueError, BatchmeshError) as error:
            return Failure(FailureKind.PLANNING_FAILED, str(error))
        except Exception as error:  # noqa: BLE001 a damaged file may raise anything; the job says so, and ends
            structlog.get_logger().exception("input_not_checked", job=job.record.row.job_id)
            return Failure(FailureKind.PLANNING_FAILED, f"Looking at the input failed with {error!r}.")
        return KIND_NUMBERS[kind]

    async def _has_taken(self, job: Entrant) -> bool:
        """Whether the job has ended with the output of an earlier one; otherwise its row says why not."""
        record = job.record
        if job.cancelled or not record.spec.allow_reuse:
            return False
        record.hold("an earlier job like it is looked for")
        found = await self._reusing.look(record, lambda: job.cancelled)
        record.hold("")
        why = found.why
        if found.earlier is not None and not job.cancelled:
            earlier, progress, _ = found.earlier
            taking = replace(record.row, state=int(State.COMMITTING), started=time.time())
            await self._write(job, replace(taking, reused_from=earlier, progress=progress))
            why = await self._take(job, earlier, progress) if not job.cancelled else ""
            if record.is_final:
                return True
        why, statements = ("", []) if job.cancelled else (why, found.statements)
        await self._write(job, _not_taking(record.row, why), statements)
        return False

    async def _take(self, job: Entrant, earlier: str, progress: bytes) -> str:
        """Ends the job with the output of that earlier one, or says why it cannot. It fails when storage does not tell
        for too long: it may have published the output, and hold the folder no more for a job that runs."""
        try:
            taken = await self._reusing.take(job.record, earlier, progress)
        except MeshUnreachable as error:
            job.record.row = _not_taking(job.record.row, str(error))
            await self._end(job, State.FAILED, Failure(FailureKind.OUTPUT_FAILED, str(error)))
            return ""
        job.record.hold("")
        if isinstance(taken, str):
            return taken
        await self._end_as(job, taken)
        return ""

    async def _let_in(self, job: Entrant) -> None:
        await self._write(job, replace(job.record.row, state=int(State.PENDING), let_in=1))
        job_id = job.record.row.job_id
        del self._jobs[job_id]
        self._dispatcher.start(job.record)
        if job.cancelled:
            self._dispatcher.tell(JobCancelled(job_id))

    # ---- ends ----

    async def _end(self, job: Entrant, state: State, failure: Failure | None = None) -> None:
        """The folder is given back first: after a death in between the job ends once more."""
        await self._give_back(job)
        error_blob = failure_proto(failure).SerializeToString() if failure else None
        await self._end_as(job, replace(job.record.row, state=int(state), error=error_blob))

    async def _give_back(self, job: Entrant) -> None:
        """A storage that is away is waited for: it would hold the folder for a job that has ended."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                await self._publisher.release(job.record.row.job_id)
            except BatchmeshError as error:
                if isinstance(error, MeshUnreachable) and time.monotonic() < until:
                    job.record.hold(f"the output folder cannot be given back yet: {error}")
                    await asyncio.sleep(_ASK_AGAIN)
                    continue
                # The next job for that folder is told what holds it.
                structlog.get_logger().warning("output_not_released", job=job.record.row.job_id, why=str(error))
            job.record.hold("")
            return

    async def _end_as(self, job: Entrant, row: JobRow) -> None:
        await self._write(job, replace(row, ended=time.time()))
        del self._jobs[row.job_id]
        self.ended(row.job_id)

    async def _write(self, job: Entrant, row: JobRow, more: list[Statement] | None = None) -> None:
        """Durable before told."""
        row = replace(row, cancelled=int(job.cancelled))
        await asyncio.wrap_future(self._store.write([*tables.set_state(row), *(more or [])]))
        job.record.row = row
        job.record.changed()


def predecessor_of(job_id: str, state: int | None, error: bytes | None) -> after.Predecessor:
    """A row of `after.predecessors`."""
    cause = job_pb2.Failure.FromString(error).message if error else ""
    return after.Predecessor(job_id, State(state) if state is not None else None, cause)


def _not_taking(row: JobRow, why: str) -> JobRow:
    """A job that takes no earlier output, and why."""
    return replace(row, state=int(State.PENDING), started=None, progress=None, reused_from="", not_reused=why)
