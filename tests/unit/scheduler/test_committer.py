"""Bringing an output to its end when storage does not do its part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from batchmesh import errors
from batchmesh.scheduler import tables
from batchmesh.scheduler.active import ActiveJob
from batchmesh.scheduler.committer import Committer
from batchmesh.scheduler.events import Event, OutputFailed
from batchmesh.scheduler.jobs import JobRecord
from batchmesh.scheduler.model import JobState, Limits, State
from batchmesh.scheduler.store import Store

if TYPE_CHECKING:
    from pathlib import Path


class Refusing:
    """A publisher whose storage answers each commit with the same error."""

    def __init__(self, error: errors.BatchmeshError) -> None:
        self.error = error
        self.calls = 0

    async def commit(self, record: JobRecord, summary_json: str, report_only: bool) -> Any:
        self.calls += 1
        raise self.error


def told_after(folder: Path, publisher: Refusing, patience: float) -> list[Event]:
    """What the Machine is told of a job whose commit goes that way."""
    store = Store(folder)
    store.write(tables.add_job("job-1", b"", 1, 100.0)).result()
    row = store.read(lambda db: tables.find_job(db, "job-1")).result()
    state = JobState("job-1", Limits(), since=0.0, state=State.COMMITTING)
    told: list[Event] = []
    committer = Committer(store, publisher, patience, told.append)  # type: ignore[arg-type]
    asyncio.run(committer.end(ActiveJob(JobRecord(row, state)), report_only=False))
    store.close()
    return told


def failure_of(told: list[Event]) -> str:
    (event,) = told
    assert isinstance(event, OutputFailed)
    return event.failure.message


def test_a_refused_output_fails_the_job_at_once(tmp_path: Path) -> None:
    publisher = Refusing(errors.OutputUnwritable("/out cannot be written."))
    assert failure_of(told_after(tmp_path, publisher, patience=600)) == "/out cannot be written."
    assert publisher.calls == 1


def test_a_mistake_of_storage_is_not_waited_for_as_long_as_its_return(tmp_path: Path) -> None:
    publisher = Refusing(errors.ServiceFailed("Storage failed."))
    assert failure_of(told_after(tmp_path, publisher, patience=600)) == "Storage failed."
    assert publisher.calls == 4


def test_a_storage_that_does_not_come_back_fails_the_job_after_its_patience(tmp_path: Path) -> None:
    publisher = Refusing(errors.MeshUnreachable("Storage does not answer."))
    assert failure_of(told_after(tmp_path, publisher, patience=0.1)) == "Storage does not answer."
    assert publisher.calls == 2
