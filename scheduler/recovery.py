"""What a scheduler does at its start with jobs that had not ended: goes on with them, or calls them lost."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import BatchmeshError

from . import counting, tables
from .events import JobCancelled
from .jobs import JobRecord
from .model import Failure, FailureKind, JobState, State
from .spec import limits_of

if TYPE_CHECKING:
    from .anteroom import Anteroom
    from .dispatcher import Dispatcher
    from .model import Counts
    from .publisher import Publisher
    from .store import Database, Store
    from .tables import JobRow


async def recover(
    store: Store, dispatcher: Dispatcher, publisher: Publisher, anteroom: Anteroom, *, lost: bool
) -> None:
    """Goes on with the jobs that had not ended, from what the nodes that served them still hold. With `lost` the mesh
    that ran them has ended with its last client: they become LOST and resumable."""
    for row in await asyncio.wrap_future(store.read(tables.unfinished_jobs)):
        record = JobRecord(row, None)
        structlog.get_logger().info("job_found_unfinished", job=row.job_id, lost=lost)
        ask = partial(_found, row=row, run_max_try=record.spec.run_max_try)
        await asyncio.wrap_future(store.write([]))  # nodes that have been given up meanwhile are expected no more
        counts, first_failure, nodes = await asyncio.wrap_future(store.read(ask))
        row.first_failure = row.first_failure or first_failure
        if lost:
            limits, first = limits_of(record.spec), record.first_failure()
            record.state = JobState(row.job_id, limits, since=0.0, counts=counts, first_failure=first)
            await _lose(record, store, publisher)
            continue
        if not row.let_in:
            anteroom.enter(record)
            continue
        if row.state == State.COMMITTING:
            nodes = frozenset()  # all had been told to finish; and the output may be there already
        if row.state == State.ENDING and not row.error:  # it was cancelled, and is again
            row.state = int(State.PENDING)
        dispatcher.start(record, counts, nodes)
        if row.cancelled:
            dispatcher.tell(JobCancelled(row.job_id))


def _found(db: Database, row: JobRow, run_max_try: int) -> tuple[Counts, bytes | None, frozenset[str]]:
    """What is done of a job, the first failure on record, and who may hold attempts of it."""
    counts = counting.counted(db, row.job_id, run_max_try)
    return counts, tables.first_failure(db, row.number), tables.serving(db, row.number)


async def _lose(record: JobRecord, store: Store, publisher: Publisher) -> None:
    job_id = record.row.job_id
    sentence = f"The mesh it ran on ended with its last client; `batchmesh resume {job_id}` goes on with it."
    assert record.state is not None
    record.state.error = Failure(FailureKind.MESH_ENDED, sentence)
    row = record.frozen()
    row.state, row.ended = int(State.LOST), time.time()
    await asyncio.wrap_future(store.write([*tables.set_state(row), *tables.forget_serving(row.number)]))
    try:
        await publisher.release(job_id)
    except BatchmeshError as error:  # storage lost it, too: the next job for that folder is told what holds it
        structlog.get_logger().warning("output_not_released", job=job_id, why=str(error))
