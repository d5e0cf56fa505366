"""The dispatcher between its Machine, its database and its nodes: what is on its way to the disk when something else
happens counts once, and nothing that was told is lost.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from batchmesh.scheduler import tables
from batchmesh.scheduler.compute import ComputeTargets
from batchmesh.scheduler.events import JobCancelled
from batchmesh.scheduler.model import State
from batchmesh.scheduler.service import SchedulerService
from batchmesh.v1 import job_pb2, scheduler_pb2
from batchmesh.v1.agent_pb2 import PoolStatus
from batchmesh.v1.agent_pb2 import RunMiniBatchesResponse as Response
from tests.support.scripted_agents import ITEMS, outcomes, play, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchmesh.scheduler.housekeeping import Housekeeping
    from batchmesh.scheduler.publisher import Publisher
    from batchmesh.scheduler.service import Context
    from batchmesh.scheduler.store import Store
    from batchmesh.scheduler.tables import JobRow
    from tests.support.scripted_agents import Line, Scene

#: Seconds that each commit of the database is held back.
SLOW = 0.15
#: What fails is not searched for bad items.
WHOLE: dict[str, Any] = {"isolate_failures": False}
FAILED = PoolStatus(phase=PoolStatus.PHASE_FAILED)


async def serving(scene: Scene, node: str, credits_: int = 1) -> Line:
    """The node joins and asks for mini-batches; returns its stream."""
    await scene.beat(node)
    line = await scene.agents[node].line()
    line.hold()
    line.ready(credits_)
    return line


async def sent(line: Line) -> int:
    """The first attempt that comes."""
    await until(lambda: line.sent, "a mini-batch")
    return next(iter(line.sent))


def test_what_a_node_has_told_counts_before_another_one_takes_its_place(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        first = await serving(scene, "a")
        attempt = await sent(first)
        other = await serving(scene, "c")
        stream = scene.dispatcher.active["job-1"].streams["a"]
        first.succeeded(attempt)
        await until(lambda: stream.received, "the outcome")
        await scene.beat("b", replaces="a")
        assert await scene.ended() is State.SUCCEEDED
        assert not other.sent, "it ran again"

    assert play(tmp_path, story, mini_batches=1, agents="abc", durable_delay=SLOW).outcomes == [(0, 0, 0, True)]


def test_what_had_no_room_yet_when_its_node_was_given_up_is_not_written(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        first = await serving(scene, "a", credits_=2)
        await until(lambda: len(first.sent) == 2, "both mini-batches")
        other = await serving(scene, "c")
        stream = scene.dispatcher.active["job-1"].streams["a"]
        for attempt in first.sent:
            first.succeeded(attempt)
        await until(lambda: stream.received == 2, "both outcomes")
        await scene.beat("b", replaces="a")
        other.failed(await sent(other))
        assert await scene.ended() is State.SUCCEEDED

    settings = {"pending_writes": 1}
    scene = play(tmp_path, story, mini_batches=2, agents="abc", durable_delay=SLOW, config=settings, **WHOLE)
    assert scene.outcomes == [(0, 0, 0, True), (1, 0, 0, False)]


def test_what_a_node_has_told_counts_before_its_pool_has_failed(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        first = await serving(scene, "a")
        attempt = await sent(first)
        other = await serving(scene, "b")
        first.succeeded(attempt)
        first.say(Response(pool=FAILED))
        assert await scene.ended() is State.SUCCEEDED
        assert not other.sent, "it ran again"

    assert play(tmp_path, story, mini_batches=1, durable_delay=SLOW).outcomes == [(0, 0, 0, True)]


def test_what_comes_with_the_news_that_a_pool_has_failed_counts(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        first = await serving(scene, "a")
        attempt = await sent(first)
        first.say(Response(pool=FAILED, outcomes=outcomes(attempt)))
        assert await scene.ended() is State.SUCCEEDED

    assert play(tmp_path, story, mini_batches=1).outcomes == [(0, 0, 0, True)]


def test_what_was_opened_for_a_node_that_is_lost_meanwhile_runs_elsewhere(tmp_path: Path) -> None:
    """It lies behind what was fed of the plan, which would not come to it again."""
    looked_up, count = threading.Event(), 2100

    async def story(scene: Scene) -> None:
        await until(lambda: len(scene.state.waiting) == 2048, "the first piece of the plan")
        between = [scene.store.read(lambda db: looked_up.wait(20)) for _ in range(2)]
        await scene.beat("a")
        (await scene.agents["a"].line()).hold((7, count - 1))
        asked = scene.store.questions
        await until(lambda: scene.store.questions > asked, "what is held")
        await scene.beat("b", replaces="a")
        await until(lambda: "a" not in scene.machine.nodes, "the loss")
        looked_up.set()
        other = await scene.agents["b"].line()
        other.hold()
        other.ready(count)
        answered: set[int] = set()
        while not scene.record.is_final:
            await until(lambda: scene.record.is_final or len(other.sent) > len(answered), "more, or the end")
            new = set(other.sent) - answered
            other.succeeded(*sorted(new))
            answered.update(new)
        assert all(each.done() for each in between)

    scene = play(tmp_path, story, mini_batches=count, config={"window": 2048})
    assert len(scene.outcomes) == count


def test_a_cancel_is_durable_before_it_is_answered(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        housekeeping, publisher = cast("Housekeeping", None), cast("Publisher", None)
        targets = ComputeTargets(scene.store, scene.dispatcher)
        service = SchedulerService(
            scene.config, scene.store, scene.dispatcher, publisher, housekeeping, targets, scene.anteroom
        )
        service.begin()
        await service.CancelJob(scheduler_pb2.CancelJobRequest(job_id="job-1"), cast("Context", None))
        (row,) = scene.store.read(tables.unfinished_jobs).result()
        assert row.cancelled
        assert await scene.ended() is State.CANCELLED

    play(tmp_path, story, mini_batches=1, durable_delay=SLOW)


def all_done(state: State) -> Callable[[Store, JobRow], None]:
    """Node a has served a job of files, of which all is settled; `state` is the last one that was told."""

    def before(store: Store, row: JobRow) -> None:
        row.state = int(state)
        outcome = (row.number, 0, 0, ITEMS, 0, 0, 1, 7, "", 0, 0, 0, ITEMS, 0, "a", 1, 1, 1, 1, None, True)
        rows = tables.add_outcomes([tables.OutcomeRow._make(outcome)])
        store.write([*rows, *tables.set_state(row), *tables.add_serving(row.number, "a")]).result()

    return before


FILES: dict[str, Any] = {"output_action": job_pb2.OUTPUT_ACTION_SUMMARY_ONLY}


def test_a_job_of_files_is_published_once_the_nodes_that_served_it_have_ended_their_workers(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.beat("a")
        line = await scene.agents["a"].line()
        assert not scene.publishing.summaries
        line.hold()
        assert await scene.ended() is State.SUCCEEDED
        assert line.closed

    play(tmp_path, story, mini_batches=1, before=all_done(State.RUNNING), **FILES)


def test_what_had_begun_to_be_published_waits_for_nobody_after_a_start_and_is_not_cancelled(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.dispatcher.tell(JobCancelled("job-1"))
        assert await scene.ended() is State.SUCCEEDED

    play(tmp_path, story, mini_batches=1, before=all_done(State.COMMITTING), **FILES)


def test_a_job_that_was_ending_for_a_reason_outside_its_counts_ends_for_it_after_a_start(tmp_path: Path) -> None:
    stalled = job_pb2.Failure(kind=job_pb2.Failure.KIND_STALLED, message="Nothing has ended for 270 s.")

    def before(store: Store, row: JobRow) -> None:
        row.state, row.error = int(State.ENDING), stalled.SerializeToString()
        store.write(tables.set_state(row)).result()

    async def story(scene: Scene) -> None:
        assert await scene.ended() is State.FAILED
        assert scene.record.row.error == stalled.SerializeToString()

    assert not play(tmp_path, story, mini_batches=2, before=before).outcomes
