"""The shell around the Machine: what is durable before it is told, and what a mistake of ours comes to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from batchmesh.scheduler import tables
from batchmesh.scheduler.config import Config
from batchmesh.scheduler.dispatcher import Dispatcher
from batchmesh.scheduler.events import (
    AttemptsEnded,
    Command,
    Event,
    JobCancelled,
    JobSubmitted,
    NodeLost,
    RecordLoss,
    Seal,
    Ticked,
)
from batchmesh.scheduler.jobs import JobRecord
from batchmesh.scheduler.model import Failure, FailureKind, JobState, Limits, MiniBatch, Running
from batchmesh.scheduler.report_rows import report_rows
from batchmesh.scheduler.store import Store
from batchmesh.v1 import job_pb2
from tests.unit.scheduler.database import FAILED, add_job, add_plan, part, write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from batchmesh.scheduler.machine import Machine
    from batchmesh.scheduler.publisher import Publisher

LOST = Failure(FailureKind.NODE_LOST, "Node a was lost.")
PATIENCE = 20.0


class Scripted:
    """A Machine that notes its events and answers each kind of them with commands of a test's choice."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobState] = {}
        self.events: list[Event] = []
        self.answers: dict[type[Any], list[Command]] = {}
        self.mistaken: type[Any] | None = None

    def handle(self, event: Event, now: float) -> list[Command]:
        if isinstance(event, JobSubmitted):
            self.jobs[event.job_id] = JobState(event.job_id, Limits(run_max_try=1), since=now)
        if self.mistaken is not None and isinstance(event, self.mistaken):
            raise ZeroDivisionError("a mistake of ours")
        self.events.append(event)
        return self.answers.get(type(event), [])

    def heard(self, kind: type[Any]) -> bool:
        return any(isinstance(event, kind) for event in self.events)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def play(store: Store, folder: Path, story: Callable[[Dispatcher, Scripted], Awaitable[None]]) -> Scripted:
    """Tells a story of a dispatcher, then ends it."""
    machine = Scripted()

    async def whole() -> None:
        config = Config(listen="", storage="", state=folder)
        dispatcher = Dispatcher(config, cast("Machine", machine), store, cast("Publisher", None), stamp=1)
        await asyncio.wait_for(story(dispatcher, machine), PATIENCE)
        await dispatcher.close()

    asyncio.run(whole())
    return machine


def begun(store: Store, dispatcher: Dispatcher) -> JobRecord:
    """A job of one mini-batch that runs."""
    row = add_job(store, spec=job_pb2.JobSpec(run_max_try=1).SerializeToString())
    add_plan(store, row, 1)
    record = JobRecord(row, None)
    dispatcher.start(record)
    return record


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 another thread brings it about
        await asyncio.sleep(0.005)


def test_a_mistake_in_the_machine_says_that_the_scheduler_can_only_start_again(store: Store, tmp_path: Path) -> None:
    async def story(dispatcher: Dispatcher, machine: Scripted) -> None:
        machine.mistaken = JobCancelled
        with pytest.raises(ZeroDivisionError):
            dispatcher.tell(JobCancelled("job-1"))
        with pytest.raises(ZeroDivisionError):
            await dispatcher.failed

    play(store, tmp_path, story)


def test_a_mistake_in_the_clock_does_not_end_it_quietly(store: Store, tmp_path: Path) -> None:
    async def story(dispatcher: Dispatcher, machine: Scripted) -> None:
        machine.mistaken = Ticked
        dispatcher.spawn(dispatcher.tick())
        with pytest.raises(ZeroDivisionError):
            await dispatcher.failed

    play(store, tmp_path, story)


def test_the_loss_of_an_attempt_is_durable_before_it_is_told(store: Store, tmp_path: Path) -> None:
    async def story(dispatcher: Dispatcher, machine: Scripted) -> None:
        record = begun(store, dispatcher)
        assert record.state is not None
        record.state.running[9] = Running(MiniBatch(0, 8), "", 0.0)
        machine.answers = {NodeLost: [RecordLoss("job-1", 9, "a", LOST)]}
        dispatcher.tell(NodeLost("a"))
        assert not machine.heard(AttemptsEnded)
        await until(lambda: machine.heard(AttemptsEnded))
        (rows,) = await asyncio.wrap_future(store.read(lambda db: report_rows(db, 1, -1, 10)))
        assert [(row.attempt, row.node, row.failed, row.final) for row in rows] == [(9, "a", 8, 1)]

    (told,) = [event for event in play(store, tmp_path, story).events if isinstance(event, AttemptsEnded)]
    assert [(end.attempt_id, end.failure) for end in told.ends] == [(9, LOST)]


def test_a_node_that_is_lost_is_expected_no_more_after_another_start(store: Store, tmp_path: Path) -> None:
    async def story(dispatcher: Dispatcher, machine: Scripted) -> None:
        row = begun(store, dispatcher).row
        await asyncio.wrap_future(
            store.write([*tables.add_serving(row.number, "a"), *tables.add_serving(row.number, "b")])
        )
        dispatcher.tell(NodeLost("a"))
        await asyncio.wrap_future(store.write([]))
        assert await asyncio.wrap_future(store.read(lambda db: tables.serving(db, row.number))) == {"b"}

    play(store, tmp_path, story)


def test_a_search_that_has_ended_makes_its_failures_final(store: Store, tmp_path: Path) -> None:
    async def story(dispatcher: Dispatcher, machine: Scripted) -> None:
        row = begun(store, dispatcher).row
        write(store, part(row, 0, 0, 4, 1, 2), part(row, 0, 4, 4, 1, 2, FAILED))
        machine.answers = {Ticked: [Seal("job-1", [0])]}
        dispatcher.tell(Ticked())
        await asyncio.wrap_future(store.write([]))
        assert await asyncio.wrap_future(store.read(lambda db: tables.next_planned(db, row.number, 0, 9))) == []

    play(store, tmp_path, story)


def test_a_scheduler_that_ends_tells_the_machine_nothing_any_more(store: Store, tmp_path: Path) -> None:
    async def story(dispatcher: Dispatcher, machine: Scripted) -> None:
        await dispatcher.close()
        dispatcher.tell(Ticked())

    assert play(store, tmp_path, story).events == []
