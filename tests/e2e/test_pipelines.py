"""Several steps, each a job that comes after others: submitted at once, they go on by themselves, whatever dies."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh import errors
from batchmesh.client import Client
from batchmesh.job import JobState
from batchmesh.submission import Submission
from tests.support.living import command
from tests.support.mesh import Mesh
from tests.support.pipeline import COUNT, DOUBLES, SQUARES, SUM, TOTAL, ThreeSteps
from tests.support.story import (
    failed,
    final,
    lines,
    succeeded,
    until,
    write_files,
    write_script,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh.job import Job


@pytest.fixture
def client(mesh: Mesh) -> Iterator[Client]:
    with Client(mesh.address) as client:
        yield client


def ends(client: Client, ids: list[str]) -> list[Job]:
    return [final(client, job_id) for job_id in ids]


def test_three_steps_run_one_after_the_other(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "three")
    jobs = client.submit_many(story.jobs())
    assert [job.job_id for job in jobs] == story.ids
    first, second, third = map(succeeded, ends(client, story.ids))
    assert lines(third) == [str(TOTAL)]
    times = [moment for job in (first, second, third) for moment in (job.started, job.ended) if moment is not None]
    assert len(times) == 6
    assert times == sorted(times)


def test_a_step_waits_and_says_for_what(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "waits", gated=True)
    _, second, _ = client.submit_many(story.jobs())
    assert second.state is JobState.WAITING
    told = until(client, second.job_id, lambda job: bool(job.waiting_for))
    assert told.waiting_for == "job waits-squares has not ended yet"
    story.open_gate()
    assert lines(succeeded(final(client, story.ids[2]))) == [str(TOTAL)]


def test_what_comes_after_a_step_that_fails_fails_with_its_cause(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "fails", gated=True)
    client.submit_many(story.jobs())
    story.open_gate("fail")
    first, second, third = map(failed, ends(client, story.ids))
    assert first.error
    assert second.error
    assert third.error
    assert second.error.kind == third.error.kind == "PREDECESSOR"
    assert second.error.message == f"Job fails-squares, which it comes after, failed: {first.error.message}"
    assert third.error.message == f"Job fails-doubles, which it comes after, failed: {second.error.message}"
    assert not story.output(1).exists(), "its folder is given back"


def test_steps_that_failed_with_another_go_on_one_by_one_once_that_one_does(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "resumed", gated=True)
    client.submit_many(story.jobs())
    story.open_gate("fail")
    ends(client, story.ids)
    with pytest.raises(errors.JobNotResumable, match="Job resumed-doubles would fail again at once: Job resumed-sq"):
        client.resume(story.ids[1])
    story.gate.unlink()
    client.resume(story.ids[0], failed=True)
    assert [client.resume(job_id).state for job_id in story.ids[1:]] == [JobState.WAITING, JobState.WAITING]
    story.open_gate()
    assert lines(succeeded(final(client, story.ids[2]))) == [str(TOTAL)]


def test_what_comes_after_a_step_that_is_cancelled_fails(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "first", gated=True)
    client.submit_many(story.jobs())
    until(client, story.ids[0], lambda job: job.state is JobState.RUNNING)
    client.cancel(story.ids[0])
    assert final(client, story.ids[0]).state is JobState.CANCELLED
    second = failed(final(client, story.ids[1]))
    assert second.error
    assert second.error.message == "Job first-squares, which it comes after, was cancelled."


def test_a_step_that_waits_can_be_cancelled_alone(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "second", gated=True)
    client.submit_many(story.jobs())
    client.cancel(story.ids[1])
    second, third = ends(client, story.ids[1:])
    assert second.state is JobState.CANCELLED
    assert third.error
    assert third.error.message == "Job second-doubles, which it comes after, was cancelled."
    story.open_gate()
    succeeded(final(client, story.ids[0]))
    assert client.cancel(story.ids[1]).state is JobState.CANCELLED, "cancelling it again is no mistake"


def test_a_job_that_another_one_waits_for_is_not_forgotten(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "kept", gated=True)
    other = ThreeSteps(tmp_path / "other", "free")
    (free, *_), gated = other.jobs()[:1], story.jobs()
    client.submit_many([free])
    succeeded(final(client, free[0]))
    waiting = Submission.prepare(
        write_script(tmp_path, SUM, "both.py"), story.output(0), tmp_path / "both", after=[gated[0][0], free[0]]
    )
    client.submit_many([gated[0], ("both", waiting)])
    with pytest.raises(errors.JobNotEnded, match="Job both comes after job free-squares and waits"):
        client.delete(free[0])
    client.cancel("both")
    final(client, "both")
    client.delete(free[0])
    client.cancel(gated[0][0])


def test_an_input_that_is_refused_once_it_is_there_fails_the_job(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "odd")
    first, (name, second) = story.jobs()[:2]
    odd = Submission.prepare(
        write_script(tmp_path, SUM, "odd.py"), f"{story.output(0)}/*.parquet", tmp_path / "odd", after=[first[0]]
    )
    client.submit_many([first, (name, second), ("odd-files", odd)])
    job = failed(final(client, "odd-files"))
    assert job.error
    assert job.error.kind == "PLANNING_FAILED"
    assert "matches no file" in job.error.message
    succeeded(final(client, name))


def test_either_all_jobs_are_accepted_or_none(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "none")
    *good, (name, last) = story.jobs()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("of somebody")
    bad = Submission.prepare(write_script(tmp_path, SUM, "bad.py"), tmp_path / "in", taken, after=last.spec.after)
    with pytest.raises(errors.OutputNotEmpty, match=f"^Job {name}: "):
        client.submit_many([*good, (name, bad)])
    for job_id in story.ids:
        with pytest.raises(errors.NoJob):
            client.get(job_id)
    assert not story.output(0).exists(), "what was reserved is given back"
    client.submit_many([*good, (name, last)])
    succeeded(final(client, name))


def test_the_same_jobs_again_are_the_same_jobs(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "again")
    first = client.submit_many(story.jobs())
    assert [job.submitted for job in client.submit_many(story.jobs())] == [job.submitted for job in first]
    ends(client, story.ids)
    assert {job.state for job in client.submit_many(story.jobs())} == {JobState.SUCCEEDED}
    other = ThreeSteps(tmp_path / "other", "again")
    with pytest.raises(errors.JobExists, match="Job again-squares was submitted with another spec"):
        client.submit_many(other.jobs())


def test_the_same_jobs_from_several_clients_at_once_are_accepted_once(mesh: Mesh, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "at-once")

    def submit(jobs: list[tuple[str, Submission]]) -> list[Job]:
        with Client(mesh.address) as client:
            return list(client.submit_many(jobs))

    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(submit, [story.jobs()] * 4))
    assert len({tuple(job.submitted for job in jobs) for jobs in told}) == 1
    with Client(mesh.address) as client:
        assert lines(succeeded(final(client, story.ids[2]))) == [str(TOTAL)]


def test_what_cannot_be_an_order_is_refused_in_one_sentence(client: Client, tmp_path: Path) -> None:
    script, inputs = write_script(tmp_path, SUM), write_files(tmp_path / "in", 1)[0]

    def job(name: str, *after: str) -> tuple[str, Submission]:
        return name, Submission.prepare(script, inputs, tmp_path / name, after=after)

    def refused(*jobs: tuple[str, Submission]) -> str:
        with pytest.raises(errors.SpecRefused) as caught:
            client.submit_many(jobs)
        return str(caught.value)

    assert refused(job("a", "b"), job("b", "c"), job("c", "a")) == (
        "Jobs come after one another in a circle: job a, which comes after job b, which comes after job c, which comes "
        "after job a; take one of them out."
    )
    assert refused(job("a", "a")) == "Job a comes after itself; take it out of its own 'after'."
    assert refused(job("a", "who")) == "Job a comes after job who, which there is not; submit that one, too."
    assert refused(job("a"), job("a")) == "Job a is there 2 times; give each job an id of its own."
    assert refused() == "There are 0 jobs; submit from 1 to 100 at once."
    assert refused(job("a"), job("B")).startswith("'B' is no job id")
    missing = Submission.prepare(script, tmp_path / "nowhere", tmp_path / "b", after=["a"])
    with pytest.raises(errors.InputRefused, match=r"^Job b: input .*nowhere' does not exist"):
        client.submit_many([job("a"), ("b", missing)])


def test_a_single_job_may_come_after_one_that_is_there(client: Client, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "single")
    (_, first), *_ = story.jobs()
    client.send(first, job_id="single-squares")
    script = write_script(tmp_path, DOUBLES, "step_1.py")
    settings: Any = {"append_row_file_name": "rows.jsonl", "input_type": "jsonl", "after": ["single-squares"]}
    job = client.submit(script, story.output(0), story.output(1), job_id="single-doubles", **settings)
    rows = [json.loads(line) for line in lines(succeeded(final(client, job.job_id)))]
    assert rows == [{"double": 2 * number**2} for number in range(COUNT)]


def test_jobs_are_listed_by_their_labels(client: Client, tmp_path: Path) -> None:
    script, inputs = write_script(tmp_path, SQUARES), write_files(tmp_path / "in", 1)[0]
    for number, (workspace, run, experiment) in enumerate((("", "r1", "e"), ("w", "r2", "e"), ("w", "", "other"))):
        labels: Any = {"workspace": workspace or None, "pipeline_run": run, "experiment": experiment}
        client.submit(script, inputs, tmp_path / f"{number}", job_id=f"labelled-{number}", **labels)

    def found(**labels: str) -> list[str]:
        return [job.job_id for job in client.list(**labels) if job.job_id.startswith("labelled-")]

    assert found(experiment="e") == ["labelled-1", "labelled-0"]
    assert found(workspace="w") == ["labelled-2", "labelled-1"]
    assert found(workspace="default", experiment="e") == ["labelled-0"]
    assert found(pipeline_run="r2") == ["labelled-1"]
    assert found() == ["labelled-2", "labelled-1", "labelled-0"]
    shown = command(tmp_path / "home", "jobs", "--experiment", "e", "--workspace", "w", "--scheduler", client.address)
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == ["labelled-1"]
    ends(client, found())


def test_steps_hand_on_what_they_write_in_a_datastore(client: Client, tmp_path: Path) -> None:
    top, ids = f"datastore://workspaceblobstore/{tmp_path.name}", ["stored-squares", "stored-doubles"]
    squares = write_script(tmp_path, SQUARES, "squares.py")
    doubles = write_script(tmp_path, DOUBLES, "doubles.py")
    write_files(tmp_path / "in", COUNT)

    def run(number: int) -> list[Job]:
        steps = [f"{each}-{number}" for each in ids]
        settings: Any = {"allow_reuse": True, "append_row_file_name": "rows.jsonl"}
        one = Submission.prepare(squares, tmp_path / "in", f"{top}/one-{number}", **settings)
        two = Submission.prepare(
            doubles, f"{top}/one-{number}/rows.jsonl", f"{top}/two-{number}", after=steps[:1], **settings
        )
        client.submit_many(list(zip(steps, (one, two), strict=True)))
        return [succeeded(final(client, step)) for step in steps]

    first, again = run(1), run(2)
    for jobs in (first, again):
        rows = b"".join(client.read_output(jobs[1].job_id)).splitlines()
        assert [json.loads(row)["double"] for row in rows] == [2 * number**2 for number in range(COUNT)]
    assert [job.reused_from for job in again] == [job.job_id for job in first]


# ---- deaths ----


def test_a_pipeline_outlives_its_client(mesh: Mesh, tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "alone", gated=True)
    with Client(mesh.address) as client:
        client.submit_many(story.jobs())
    story.open_gate()
    with Client(mesh.address) as client:
        assert lines(succeeded(final(client, story.ids[2]))) == [str(TOTAL)]


def test_steps_that_wait_survive_the_scheduler(tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "killed", gated=True)
    (tmp_path / "mesh").mkdir()
    with Mesh(tmp_path / "mesh", agents=1) as mesh, Client(mesh.address) as client:
        client.submit_many(story.jobs())
        until(client, story.ids[0], lambda job: job.state is JobState.RUNNING)
        _die(mesh)
        assert client.get(story.ids[1]).state is JobState.WAITING
        client.cancel(story.ids[2])
        assert final(client, story.ids[2]).state is JobState.CANCELLED
        story.open_gate()
        succeeded(final(client, story.ids[1]))


def test_a_step_begins_though_the_scheduler_died_when_the_one_before_had_succeeded(tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "between")
    (tmp_path / "mesh").mkdir()
    slow = ("--durable-delay", "0.4")
    with Mesh(tmp_path / "mesh", scheduler_options=slow) as mesh, Client(mesh.address) as client:
        client.submit_many(story.jobs())
        succeeded(final(client, story.ids[0]))
        mesh.scheduler.kill()
        assert _let_in(tmp_path / "mesh", story.ids[1]) == 0, "it had begun"
        mesh.scheduler_options = ()
        mesh.scheduler = mesh.start_scheduler(mesh.scheduler.address)
        assert lines(succeeded(final(client, story.ids[2]))) == [str(TOTAL)]


def test_steps_that_wait_are_lost_with_their_embedded_mesh_and_resumable(tmp_path: Path) -> None:
    story = ThreeSteps(tmp_path, "lost", gated=True)
    (tmp_path / "mesh").mkdir()
    with Mesh(tmp_path / "mesh", scheduler_options=("--embedded",)) as mesh, Client(mesh.address) as client:
        with pytest.raises(errors.MeshEmbedded):
            client.submit_many(story.jobs())
        client.submit_many(story.jobs(), attended=True)
        until(client, story.ids[0], lambda job: job.state is JobState.RUNNING)
        _die(mesh)
        assert {client.get(job_id).state for job_id in story.ids} == {JobState.LOST}
        story.open_gate()
        for job_id in story.ids:
            client.resume(job_id, attended=True)
        assert lines(succeeded(final(client, story.ids[2]))) == [str(TOTAL)]


def _die(mesh: Mesh) -> None:
    mesh.scheduler.kill()
    mesh.scheduler = mesh.start_scheduler(mesh.scheduler.address)


def _let_in(folder: Path, job_id: str) -> int:
    with closing(sqlite3.connect(folder / "state" / "scheduler.sqlite3")) as db:
        (let_in,) = db.execute("SELECT let_in FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return int(let_in)
