"""What a scheduler does at its start with jobs that had not ended: goes on with them, or calls them lost."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import BatchmeshError

from . import tables
from .events import JobCancelled
from .jobs import JobRecord
from .model import Failure, FailureKind, JobState, State
from .spec import limits_of

if TYPE_CHECKING:
    from .dispatcher import Dispatcher
    from .publisher import Publisher
    from .store import Store


async def recover(store: Store, dispatcher: Dispatcher, publisher: Publisher, embedded: bool) -> None:
    """An embedded mesh ended with its last client: its jobs are LOST and resumable. A standing one goes on."""
    for row in await asyncio.wrap_future(store.read(tables.unfinished_jobs)):
        counts = await asyncio.wrap_future(store.read(partial(tables.counted, job_id=row.job_id)))
        structlog.get_logger().info("job_found_unfinished", job=row.job_id, lost=embedded)
        record = JobRecord(row, None)
        if embedded:
            record.state = JobState(row.job_id, limits_of(record.spec), since=0.0, counts=counts)
            await _lose(record, store, publisher)
        else:
            row.state = int(State.PENDING) if row.state == State.ENDING else row.state
            dispatcher.start(record, counts)
            if row.cancelled:
                dispatcher.tell(JobCancelled(row.job_id))


async def _lose(record: JobRecord, store: Store, publisher: Publisher) -> None:
    job_id = record.row.job_id
    sentence = f"The mesh it ran on ended with its last client; `batchmesh resume {job_id}` goes on with it."
    assert record.state is not None
    record.state.error = Failure(FailureKind.MESH_ENDED, sentence)
    row = record.frozen()
    row.state, row.ended = int(State.LOST), time.time()
    await asyncio.wrap_future(store.write(tables.set_state(row)))
    try:
        await publisher.release(job_id)
    except BatchmeshError as error:  # storage lost it, too: the next job for that folder is told what holds it
        structlog.get_logger().warning("output_not_released", job=job_id, why=str(error))
