"""Bringing an output to its end when storage does not do its part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh import errors
from batchmesh.scheduler.active import ActiveJob
from batchmesh.scheduler.committer import Committer
from batchmesh.scheduler.events import Event, OutputCommitted, OutputFailed
from batchmesh.scheduler.jobs import JobRecord
from batchmesh.scheduler.model import JobState, Limits, State
from batchmesh.scheduler.store import Store, StoreFailed
from batchmesh.v1 import storage_pb2
from tests.unit.scheduler.database import add_job, add_plan, whole, write

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh.scheduler.tables import JobRow


class Answering:
    """A publisher whose storage answers commits with these errors, one after the other, the last one ever again; after
    `None` it has published."""

    def __init__(self, *answers: errors.BatchmeshError | None) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def commit(self, record: JobRecord, summary_json: str, report_only: bool) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
        return storage_pb2.CommitOutputResponse(manifest=storage_pb2.Manifest(output_path="/out/rows.txt"))


class NoFeed:
    """The feed of a job of which nothing is open any more."""


def told_after(folder: Path, publisher: Answering, patience: float, seen: list[str] | None = None) -> list[Event]:
    """What the Machine is told of a job whose commit goes that way; `seen` gets what the job waited for."""
    store = Store(folder)
    row = add_job(store)
    state = JobState("job-1", Limits(), since=0.0, state=State.COMMITTING)
    record = Held(row, state)
    told: list[Event] = []
    committer = Committer(store, publisher, patience, told.append)  # type: ignore[arg-type]
    asyncio.run(committer.end(ActiveJob(record, NoFeed()), report_only=False))  # type: ignore[arg-type]
    store.close()
    if seen is not None:
        seen += record.seen
    return told


class Held(JobRecord):
    """A record that remembers what held its job up."""

    def __init__(self, row: JobRow, state: JobState) -> None:
        super().__init__(row, state)
        self.seen: list[str] = []

    def changed(self) -> None:
        self.seen.append(self.holds)
        super().changed()


def failure_of(told: list[Event]) -> str:
    (event,) = told
    assert isinstance(event, OutputFailed)
    return event.failure.message


def test_a_refused_output_fails_the_job_at_once(tmp_path: Path) -> None:
    publisher = Answering(errors.OutputUnwritable("/out cannot be written."))
    assert failure_of(told_after(tmp_path, publisher, patience=600)) == "/out cannot be written."
    assert publisher.calls == 1


def test_a_mistake_of_storage_is_not_waited_for_as_long_as_its_return(tmp_path: Path) -> None:
    publisher = Answering(errors.ServiceFailed("Storage failed."))
    assert failure_of(told_after(tmp_path, publisher, patience=600)) == "Storage failed."
    assert publisher.calls == 4


def test_a_storage_that_does_not_come_back_fails_the_job_after_its_patience(tmp_path: Path) -> None:
    publisher = Answering(errors.MeshUnreachable("Storage does not answer."))
    assert failure_of(told_after(tmp_path, publisher, patience=0.1)) == "Storage does not answer."
    assert publisher.calls == 2


def test_a_full_disk_is_waited_for_beyond_all_patience_and_the_job_says_so(tmp_path: Path) -> None:
    full = errors.DiskFull("The disk of /out is full.")
    publisher, seen = Answering(full, full, full, None), list[str]()
    assert told_after(tmp_path, publisher, patience=0.1, seen=seen) == [OutputCommitted("job-1")]
    assert seen == ["the output cannot be written yet: The disk of /out is full.", ""]


def test_a_storage_that_answers_again_gets_the_whole_patience_anew(tmp_path: Path) -> None:
    away, full = errors.MeshUnreachable("Storage does not answer."), errors.DiskFull("full")
    publisher = Answering(away, full, away, None)
    assert told_after(tmp_path, publisher, patience=0.1) == [OutputCommitted("job-1")]


def test_an_output_in_which_rows_would_be_missing_is_never_written(tmp_path: Path) -> None:
    """Whatever the Machine has counted: the scheduler starts again, and runs what the database does not have."""
    store = Store(tmp_path)
    row = add_job(store)
    add_plan(store, row, 2)
    write(store, whole(row, 0))
    publisher, told = Answering(None), list[Event]()
    committer = Committer(store, publisher, 600.0, told.append)  # type: ignore[arg-type]
    record = JobRecord(row, JobState("job-1", Limits(), since=0.0, state=State.COMMITTING))
    with pytest.raises(StoreFailed, match="job-1 was to be committed"):
        asyncio.run(committer.end(ActiveJob(record, NoFeed()), report_only=False))  # type: ignore[arg-type]
    store.close()
    assert not publisher.calls
    assert not told
