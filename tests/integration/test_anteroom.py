"""The anteroom over a real database, with a dispatcher and a storage of the test's making: a job may be cancelled, and
the scheduler may die, at each step before the Machine hears of it.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from batchmesh.errors import MeshUnreachable, NoOutput
from batchmesh.scheduler import tables
from batchmesh.scheduler.anteroom import Anteroom
from batchmesh.scheduler.jobs import JobRecord
from batchmesh.scheduler.model import FINAL, State
from batchmesh.scheduler.reusing import Reusing
from batchmesh.scheduler.spec import completed
from batchmesh.scheduler.store import Store
from batchmesh.v1 import job_pb2, storage_pb2
from tests.support.scripted_agents import until
from tests.support.story import write_files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from batchmesh.scheduler.dispatcher import Dispatcher
    from batchmesh.scheduler.publisher import Publisher


@dataclass
class Moving:
    """A dispatcher that only notes what it was given."""

    started: list[str] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    datastores: Any = None
    on_end: Any = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    def start(self, record: JobRecord) -> None:
        self.started.append(record.row.job_id)

    def tell(self, event: object) -> None:
        self.told.append(event)


@dataclass
class Outputs:
    """A storage that gives outputs back, and copies them once it may."""

    released: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    #: Set when a copy has begun; it ends when `may` is.
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    may: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False
    away: bool = False

    async def release(self, job_id: str) -> None:
        if self.away:
            raise MeshUnreachable("Storage does not answer.")
        self.released.append(job_id)

    async def copy(self, record: JobRecord, summary_json: str, from_job_id: str) -> storage_pb2.Manifest:
        self.begun.set()
        await self.may.wait()
        if self.gone:
            raise NoOutput("It is gone.")
        if self.away:
            raise MeshUnreachable("Storage does not answer.")
        self.copied.append(from_job_id)
        return storage_pb2.Manifest(output_path="/out/rows.txt", report_path="/out/job_report")


class Scene:
    """One life of the scheduler before its Machine."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.moving, self.outputs = Moving(), Outputs()
        publisher = cast("Publisher", self.outputs)
        reusing = Reusing(store, publisher, None, patience=0.0)
        self.room = Anteroom(store, cast("Dispatcher", self.moving), publisher, reusing)

    def submit(self, job_id: str, *, after: tuple[str, ...] = (), **spec: Any) -> JobRecord:
        record = self.accepted(job_id, after=after, **spec)
        self.room.enter(record)
        return record

    def accepted(self, job_id: str, *, after: tuple[str, ...] = (), **spec: Any) -> JobRecord:
        """It is in the database, and not on its way."""
        given = {"entry_script": "s.py", "source_digest": "d", "inputs": [str(self.folder / "in")], **spec}
        whole = completed(job_pb2.JobSpec(output=str(self.folder / job_id), after=after, **given))
        labels = tables.Labels(whole.workspace)
        self.store.write(tables.add_job(job_id, whole.SerializeToString(), 0, 1.0, labels, after)).result()
        return self.row(job_id)

    def row(self, job_id: str) -> JobRecord:
        """As the database has it."""
        row = self.store.read(lambda db: tables.find_job(db, job_id)).result()
        assert row is not None
        return JobRecord(row, None)

    def put(self, job_id: str, state: State) -> None:
        """Another job comes to that state."""
        if self.store.read(lambda db: tables.find_job(db, job_id)).result() is None:
            self.store.write(tables.add_job(job_id, b"", 1, 1.0)).result()
        row = self.row(job_id).row
        row.state = int(state)
        self.store.write(tables.set_state(row)).result()
        if state in FINAL:
            self.room.ended(job_id)

    async def ended(self, record: JobRecord) -> State:
        await until(lambda: record.is_final, "the end of the job")
        assert self.room.get(record.row.job_id) is None
        return State(record.row.state)


def play(folder: Path, *stories: Callable[[Scene], Awaitable[None]]) -> None:
    """Each story is another life of the scheduler, which is killed at its end: what is under way never ends."""

    async def one(story: Callable[[Scene], Awaitable[None]], store: Store) -> None:
        scene = Scene(folder, store)
        await story(scene)
        for task in scene.moving.tasks:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*scene.moving.tasks, return_exceptions=True)

    write_files(folder / "in", 3)
    with closing(Store(folder / "state")) as store:
        for story in stories:
            asyncio.run(one(story, store))


def test_a_job_begins_once_the_last_of_those_before_it_has_succeeded(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        for name in "ab":
            scene.put(name, State.RUNNING)
        record = scene.submit("job", after=("a", "b"))
        await until(lambda: record.holds == "job a and 1 more have not ended yet", "what it waits for")
        scene.put("a", State.SUCCEEDED)
        await until(lambda: record.holds == "job b has not ended yet", "what else it waits for")
        assert not scene.moving.started
        scene.put("b", State.SUCCEEDED)
        await until(lambda: scene.moving.started == ["job"], "the start")
        row = scene.row("job").row
        assert (row.state, row.let_in, row.input_kind) == (State.PENDING, 1, job_pb2.INPUT_KIND_FILES)
        assert scene.room.get("job") is None

    play(tmp_path, story)


def test_a_storage_that_is_away_while_an_input_is_looked_at_costs_the_job_nothing(tmp_path: Path) -> None:
    class Away:
        """Datastores that cannot be opened, for as long as storage is away."""

        away = True

        def asked(self, workspace: str) -> None:
            if self.away:
                raise MeshUnreachable("Storage does not answer.")

    async def story(scene: Scene) -> None:
        scene.moving.datastores = datastores = Away()
        record = scene.submit("job")
        await until(lambda: record.holds == "Storage does not answer.", "the reason")
        datastores.away = False
        await until(lambda: scene.moving.started == ["job"], "the start")

    play(tmp_path, story)


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.LOST])
def test_a_job_fails_while_others_before_it_still_run(tmp_path: Path, state: State) -> None:
    async def story(scene: Scene) -> None:
        scene.put("a", State.RUNNING)
        scene.put("b", State.RUNNING)
        record = scene.submit("job", after=("a", "b"))
        scene.put("b", state)
        assert await scene.ended(record) is State.FAILED
        assert scene.outputs.released == ["job"]
        assert not scene.moving.started

    play(tmp_path, story)


def test_a_storage_that_is_away_keeps_no_folder_of_a_job_that_has_ended(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.outputs.away = True
        scene.put("a", State.FAILED)
        record = scene.submit("job", after=("a",))
        await until(lambda: record.holds.startswith("the output folder cannot be given back yet"), "the reason")
        assert not record.is_final
        scene.outputs.away = False
        assert await scene.ended(record) is State.FAILED
        assert scene.outputs.released == ["job"]

    play(tmp_path, story)


def test_a_cancel_is_durable_before_it_is_told_and_survives_a_death(tmp_path: Path) -> None:
    async def first(scene: Scene) -> None:
        scene.put("a", State.RUNNING)
        scene.submit("job", after=("a",))
        assert await scene.room.cancel("job")
        assert scene.row("job").row.cancelled

    async def second(scene: Scene) -> None:
        record = scene.row("job")
        if not record.is_final:
            scene.room.enter(record)
        assert await scene.ended(record) is State.CANCELLED

    play(tmp_path, first, second)


def test_a_job_that_is_not_here_cannot_be_cancelled_here(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        assert not await scene.room.cancel("job")

    play(tmp_path, story)


async def _earlier(scene: Scene) -> None:
    """A job that ran and has succeeded."""
    scene.submit("earlier", allow_reuse=True)
    await until(lambda: scene.moving.started == ["earlier"], "the start of the earlier one")
    scene.moving.started.clear()
    row = scene.row("earlier").row
    assert row.not_reused == "no job like it has succeeded"
    row.state, row.progress = int(State.SUCCEEDED), job_pb2.Progress(rows=3, succeeded_items=3).SerializeToString()
    scene.store.write(tables.set_state(row)).result()


def test_a_job_that_takes_an_output_has_its_counts(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await _earlier(scene)
        scene.outputs.may.set()
        record = scene.submit("job", allow_reuse=True)
        assert await scene.ended(record) is State.SUCCEEDED
        job = record.snapshot(has_nodes=False, without_nodes="")
        assert (job.reused_from, job.not_reused, job.output_path) == ("earlier", "", "/out/rows.txt")
        assert job.progress == job_pb2.Progress(rows=3, succeeded_items=3)
        assert job.started.seconds
        assert job.ended.seconds
        assert not scene.moving.started

    play(tmp_path, story)


def test_while_it_takes_an_output_a_job_is_committing_also_after_a_death(tmp_path: Path) -> None:
    async def first(scene: Scene) -> None:
        await _earlier(scene)
        record = scene.submit("job", allow_reuse=True)
        await scene.outputs.begun.wait()
        assert record.row.state == scene.row("job").row.state == State.COMMITTING

    async def second(scene: Scene) -> None:
        scene.outputs.may.set()
        record = scene.row("job")
        scene.room.enter(record)
        assert await scene.ended(record) is State.SUCCEEDED
        assert scene.outputs.copied == ["earlier"]

    play(tmp_path, first, second)


def test_an_output_that_was_being_taken_is_taken_after_a_death_whatever_has_changed(tmp_path: Path) -> None:
    async def first(scene: Scene) -> None:
        await _earlier(scene)
        scene.submit("job", allow_reuse=True)
        await scene.outputs.begun.wait()
        # Storage publishes it and holds the folder no more; then the earlier job is deleted, and the input grows.
        scene.store.write(tables.delete_job(scene.row("earlier").row.number)).result()
        write_files(scene.folder / "in", 4)

    async def second(scene: Scene) -> None:
        scene.outputs.may.set()
        record = scene.row("job")
        scene.room.enter(record)
        assert await scene.ended(record) is State.SUCCEEDED
        assert (record.row.reused_from, scene.outputs.copied) == ("earlier", ["earlier"])
        assert record.progress().succeeded_items == 3

    play(tmp_path, first, second)


def test_an_output_that_was_being_taken_and_is_gone_after_a_death_is_made(tmp_path: Path) -> None:
    async def first(scene: Scene) -> None:
        await _earlier(scene)
        scene.submit("job", allow_reuse=True)
        await scene.outputs.begun.wait()

    async def second(scene: Scene) -> None:
        scene.outputs.gone = True
        scene.outputs.may.set()
        record = scene.row("job")
        scene.room.enter(record)
        await until(lambda: scene.moving.started == ["job"], "the start")
        row = scene.row("job").row
        assert (row.reused_from, row.progress, row.started) == ("", None, None)
        assert row.not_reused == "the output of earlier is gone, or has changed"

    play(tmp_path, first, second)


def test_a_job_does_not_run_while_nobody_knows_whether_its_output_was_taken(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await _earlier(scene)
        scene.outputs.away = True
        scene.outputs.may.set()
        record = scene.submit("job", allow_reuse=True)
        await until(lambda: "given back" in record.holds, "what it waits for")
        scene.outputs.away = False
        assert await scene.ended(record) is State.FAILED
        error = record.error()
        assert error is not None
        assert error.message == "Storage does not answer."
        assert not scene.moving.started
        assert (record.row.reused_from, record.row.progress) == ("", None)

    play(tmp_path, story)


def test_a_job_runs_when_the_output_is_gone(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await _earlier(scene)
        scene.outputs.gone = True
        scene.outputs.may.set()
        record = scene.submit("job", allow_reuse=True)
        await until(lambda: scene.moving.started == ["job"], "the start")
        assert record.row.not_reused == "the output of earlier is gone, or has changed"
        assert record.row.state == State.PENDING
        assert record.row.started is None

    play(tmp_path, story)


def test_a_job_that_is_cancelled_before_its_output_is_looked_for_takes_none(tmp_path: Path) -> None:
    read = threading.Event()

    async def story(scene: Scene) -> None:
        await _earlier(scene)
        scene.outputs.may.set()
        record = scene.accepted("job", allow_reuse=True)
        readers = [scene.store.read(lambda db: read.wait(20)) for _ in range(2)]
        scene.room.enter(record)
        assert await scene.room.cancel("job")
        read.set()
        assert await scene.ended(record) is State.CANCELLED
        assert not scene.outputs.copied
        assert all(each.result() for each in readers)

    play(tmp_path, story)
