"""The scheduler and storage, killed between each two steps of a job's life: nothing is lost, and nothing runs twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.client import Client
from batchmesh.segment import read_frame_header
from tests.support.counted import Counted
from tests.support.story import wait_for
from tests.support.wire import Direction
from tests.support.wired_mesh import CLIENT, COMMITS, STORED, WiredMesh, streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batchmesh.job import Job
    from tests.chaos.follower import Follower

REQUESTS, RESPONSES = Direction.REQUESTS, Direction.RESPONSES
#: Far longer than a scheduler takes to start, also on a machine that has other things to do.
LEASE = 30.0
#: Seconds within which a job ends of which something was killed.
PATIENCE = 90.0


class Meshes:
    """The mesh that stories share, one after another; one in which a story failed is shared with no other."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._kept: WiredMesh | None = None

    @contextmanager
    def borrowed(self) -> Iterator[WiredMesh]:
        mesh, self._kept = self._kept, None
        if mesh is None:
            mesh = WiredMesh(self._factory.mktemp("mesh"), agents=2, lease=LEASE).__enter__()
        try:
            yield mesh
        except BaseException as error:
            mesh.__exit__(type(error), error, error.__traceback__)
            raise
        self._kept = mesh

    def end(self) -> None:
        if self._kept is not None:
            self._kept.__exit__(None, None, None)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshes]:
    meshes = Meshes(tmp_path_factory)
    yield meshes
    meshes.end()


@dataclass(frozen=True)
class Step:
    """One message of a job's life: the victim is killed before it passes, or right after it has."""

    name: str
    wire: str
    method: str
    direction: Direction
    where: Callable[[Any], bool] = lambda _: True
    nth: int = 1
    after: bool = False
    #: Seconds for which each of the scheduler's durable steps is held back.
    delay: float = 0.0

    @property
    def job_id(self) -> str:
        return self.name.replace(" ", "-")


def has(field: str) -> Callable[[Any], bool]:
    return lambda message: bool(message.HasField(field))


def says(state: int) -> Callable[[Any], bool]:
    return lambda response: bool(response.job.state == state)


def outcomes(response: Any) -> bool:
    return bool(response.outcomes.attempt_id)


def acknowledges(request: Any) -> bool:
    return bool(request.acknowledged)


def finishes(request: Any) -> bool:
    return bool(request.finish)


def completes(request: Any) -> bool:
    return bool(request.complete)


COMMITTING, SUCCEEDED = 3, 5
SUBMIT, WATCH, STREAM = (CLIENT, "SubmitJob"), (CLIENT, "WatchJob"), (streams(0), "RunMiniBatches")
RESERVE, WRITE, COMMIT = (COMMITS, "ReserveOutput"), (STORED, "WriteSegments"), (COMMITS, "CommitOutput")

SCHEDULER_DIES = [
    Step("submitted and not answered", *SUBMIT, RESPONSES),
    Step("submitted", *SUBMIT, RESPONSES, after=True),
    Step("before the pool is opened", *STREAM, REQUESTS, has("open")),
    Step("the first dispatch has passed", *STREAM, REQUESTS, has("dispatch"), after=True),
    Step("a later dispatch has not passed", *STREAM, REQUESTS, has("dispatch"), nth=3),
    Step("outcomes have not passed", *STREAM, RESPONSES, outcomes),
    Step("outcomes have passed and are not durable", *STREAM, RESPONSES, outcomes, after=True, delay=0.2),
    Step("an acknowledgement has not passed", *STREAM, REQUESTS, acknowledges),
    Step("an acknowledgement has passed", *STREAM, REQUESTS, acknowledges, nth=2, after=True),
    Step("the last mini-batch has ended", *STREAM, REQUESTS, finishes, after=True),
    Step("the first request of the commit", *COMMIT, REQUESTS, has("header"), after=True),
    Step("the last request of the commit has not passed", *COMMIT, REQUESTS, completes),
    Step("the last request of the commit has passed", *COMMIT, REQUESTS, completes, after=True),
    Step("the commit is done and not answered", *COMMIT, RESPONSES),
    Step("the job has succeeded and nobody was told", *WATCH, RESPONSES, says(SUCCEEDED)),
]
STORAGE_DIES = [
    Step("the output is about to be reserved", *RESERVE, REQUESTS),
    Step("the output is reserved and that not answered", *RESERVE, RESPONSES),
    Step("a block has not passed", *WRITE, REQUESTS, nth=2),
    Step("a block has passed", *WRITE, REQUESTS, nth=2, after=True),
    Step("a block is durable and not acknowledged", *WRITE, RESPONSES, nth=2),
    Step("a block is acknowledged and no outcome told", *WRITE, RESPONSES, nth=2, after=True),
    Step("the commit begins", *COMMIT, REQUESTS, has("header"), after=True),
    Step("the commit is not all said", *COMMIT, REQUESTS, completes),
    Step("the commit is all said", *COMMIT, REQUESTS, completes, after=True),
    Step("the commit is done and its answer lost", *COMMIT, RESPONSES),
]


def named(step: Step) -> str:
    return step.job_id


def end_of(follower: Follower) -> Job:
    """The end of a job, of which the client that watched it all the time was told without an error."""
    assert follower.done.wait(PATIENCE), f"not within {PATIENCE} s: {follower.told[-1:]}"
    assert follower.error is None, follower.error
    return follower.job


def told_done_stays_done(follower: Follower) -> None:
    for before, after in pairwise(told.job.progress for told in follower.told):
        assert before.succeeded_mini_batches <= after.succeeded_mini_batches
        assert before.succeeded_items <= after.succeeded_items


def dies_at(mesh: WiredMesh, victim: str, step: Step, story: Counted) -> None:
    """The job's end is as if nothing had happened, though `victim` was killed at that step and started again."""
    passed = mesh.wires[step.wire].on(
        step.method, step.direction, mesh.parts[victim].kill, where=step.where, nth=step.nth, after=step.after
    )
    follower = story.follow(mesh.address, f"{victim}-{step.job_id}")
    assert passed.wait(PATIENCE), f"the step never came: {follower.error}, {follower.told[-1:]}"
    mesh.restart(victim)
    story.is_right(end_of(follower))
    story.ran_once_each()
    told_done_stays_done(follower)


def scheduler_dies(mesh: WiredMesh, *options: str) -> None:
    """And is started again, with `options` beside its own."""
    mesh.scheduler.kill()
    mesh.restart("scheduler", *options)


@pytest.mark.parametrize("step", SCHEDULER_DIES, ids=named)
def test_a_scheduler_that_dies_at_any_step_costs_no_run(meshes: Meshes, tmp_path: Path, step: Step) -> None:
    with meshes.borrowed() as mesh:
        if step.delay:
            scheduler_dies(mesh, "--durable-delay", str(step.delay))
        dies_at(mesh, "scheduler", step, Counted(tmp_path, 24, SECONDS=0.05))


@pytest.mark.parametrize("step", STORAGE_DIES, ids=named)
def test_a_storage_that_dies_at_any_step_costs_no_run(meshes: Meshes, tmp_path: Path, step: Step) -> None:
    with meshes.borrowed() as mesh:
        dies_at(mesh, "storage", step, Counted(tmp_path, 24, SECONDS=0.05))


def test_a_scheduler_that_dies_once_it_has_said_that_it_commits_does_so(meshes: Meshes, tmp_path: Path) -> None:
    story = Counted(tmp_path, 24)
    with meshes.borrowed() as mesh:
        mesh.wires[COMMITS].hold(REQUESTS, method="CommitOutput")
        told = mesh.wires[CLIENT].on("WatchJob", RESPONSES, mesh.scheduler.kill, where=says(COMMITTING), after=True)
        follower = story.follow(mesh.address, "committing")
        assert told.wait(PATIENCE)
        mesh.wires[COMMITS].release(deliver=False)
        mesh.restart("scheduler")
        story.is_right(end_of(follower))
        story.ran_once_each()


@pytest.mark.parametrize("victim", ["scheduler", "storage"])
def test_a_service_that_is_asked_to_end_and_starts_again_costs_no_run(
    meshes: Meshes, tmp_path: Path, victim: str
) -> None:
    story = Counted(tmp_path, 24, SECONDS=0.05)
    with meshes.borrowed() as mesh:
        follower = story.follow(mesh.address, f"{victim}-asked-to-end")
        wait_for(lambda: len(story.runs()) > 8, "some runs")
        mesh.parts[victim].end()
        mesh.restart(victim)
        story.is_right(end_of(follower))
    story.ran_once_each()


@pytest.mark.timeout(180)
def test_a_run_of_20_seconds_outlives_a_scheduler_that_dies_every_3(meshes: Meshes, tmp_path: Path) -> None:
    story, deaths = Counted(tmp_path, 1, SECONDS=20), 0
    with meshes.borrowed() as mesh, Client(mesh.address) as client:
        follower = story.follow(mesh.address, "one-long-run")
        wait_for(story.runs, "the run to begin")
        while not follower.done.wait(3.0):
            scheduler_dies(mesh)
            client.get("one-long-run")  # waits until the next one serves
            deaths += 1
        job = end_of(follower)
    story.is_right(job)
    story.ran_once_each()
    assert job.progress.retried_attempts == 0
    assert deaths > 1


def outlives_schedulers(mesh: WiredMesh, story: Counted, mini_batches: int) -> None:
    """The scheduler dies amid planning, and each time that the client was told of so many mini-batches more."""
    scheduler_dies(mesh, "--durable-delay", "1")
    follower = story.follow(mesh.address, "many")
    wait_for(lambda: 0 < planned(mesh, "many") < len(story.paths), "the first pieces of the plan")
    scheduler_dies(mesh)
    assert planned(mesh, "many") < len(story.paths), "it died too late"

    def done() -> int:
        assert not follower.done.is_set(), f"it ended early: {follower.error}, {follower.told[-1:]}"
        return follower.job.progress.succeeded_mini_batches if follower.told else 0

    for count in range(mini_batches, len(story.paths), mini_batches):
        wait_for(lambda: done() >= count, f"{count} mini-batches", PATIENCE)  # noqa: B023 it is waited for here
        scheduler_dies(mesh)
    story.is_right(end_of(follower))
    story.ran_once_each()
    told_done_stays_done(follower)


def planned(mesh: WiredMesh, job_id: str) -> int:
    """Mini-batches of a job whose plan is in the scheduler's database; 0 also while there is no such job."""
    path = mesh.folder / "state" / "scheduler.sqlite3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT planned FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return int(found[0]) if found else 0


@pytest.mark.timeout(180)
def test_none_of_12000_mini_batches_runs_again_though_the_scheduler_keeps_dying(meshes: Meshes, tmp_path: Path) -> None:
    with meshes.borrowed() as mesh:
        outlives_schedulers(mesh, Counted(tmp_path, 12_000), mini_batches=3_000)


def flipped(segment: Path, frames: list[tuple[int, int, int]]) -> set[int]:
    """One bit of a frame in the middle."""
    mini_batch, offset, length = frames[len(frames) // 2]
    data = bytearray(segment.read_bytes())
    data[offset + length - 2] ^= 4
    segment.write_bytes(data)
    return {mini_batch}


def torn(segment: Path, frames: list[tuple[int, int, int]]) -> set[int]:
    """The last frame is there in half."""
    mini_batch, offset, length = frames[-1]
    with segment.open("r+b") as file:
        file.truncate(offset + length // 2)
    return {mini_batch}


def gone(segment: Path, frames: list[tuple[int, int, int]]) -> set[int]:
    """All of it."""
    segment.unlink()
    return {mini_batch for mini_batch, _, _ in frames}


@pytest.mark.parametrize("damage", [flipped, torn, gone])
def test_damaged_frames_cost_a_second_run_of_their_own_mini_batches(
    meshes: Meshes, tmp_path: Path, damage: Callable[[Path, list[tuple[int, int, int]]], set[int]]
) -> None:
    story, job_id, harmed = Counted(tmp_path, 24, SECONDS=0.02), f"frames-{damage.__name__}", set[int]()
    with meshes.borrowed() as mesh:

        def harm() -> None:
            segment = max(segments(mesh, job_id), key=lambda path: path.stat().st_size)
            harmed.update(damage(segment, frames_of(segment)))

        mesh.wires[COMMITS].on("CommitOutput", REQUESTS, harm, where=has("header"))
        story.is_right(end_of(story.follow(mesh.address, job_id)))
    again = {story.paths[mini_batch].name for mini_batch in harmed}
    assert again
    assert story.runs() == {path.name: 1 + (path.name in again) for path in story.paths}


def test_a_torn_tail_of_a_segment_is_written_over(meshes: Meshes, tmp_path: Path) -> None:
    story = Counted(tmp_path, 24, SECONDS=0.02)
    with meshes.borrowed() as mesh:

        def dies_writing() -> None:
            mesh.storage.kill()
            for segment in segments(mesh, "torn-tail"):
                data = segment.read_bytes()
                with segment.open("ab") as file:
                    file.write(data[: len(data) // 2 + 9])

        dead = mesh.wires[STORED].on("WriteSegments", REQUESTS, dies_writing, nth=4)
        follower = story.follow(mesh.address, "torn-tail")
        assert dead.wait(PATIENCE)
        mesh.restart("storage")
        story.is_right(end_of(follower))
    story.ran_once_each()


def segments(mesh: WiredMesh, job_id: str) -> list[Path]:
    folder = mesh.folder / "disk" / "storage" / "jobs" / job_id / "segments"
    return list(folder.iterdir()) if folder.exists() else []


def frames_of(segment: Path) -> list[tuple[int, int, int]]:
    """Mini-batch, offset and length of each frame."""
    data, frames, offset = segment.read_bytes(), [], 0
    while offset < len(data):
        header = read_frame_header(data, offset)
        frames.append((header.mini_batch, offset, header.frame_length))
        offset += header.frame_length
    return frames
