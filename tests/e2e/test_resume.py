"""Going on with a job that has ended: what is done stays done, what failed runs again when that is asked for."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh import errors
from batchmesh.client import Client
from batchmesh.job import JobState
from tests.support.living import command
from tests.support.mesh import Mesh
from tests.support.story import (
    adds_up,
    failed,
    failed_items,
    final,
    lines,
    succeeded,
    summary,
    until,
    wait_for,
    write_files,
    write_script,
)

if TYPE_CHECKING:
    from batchmesh.job import Job

#: Notes each item that it gets, waits for GATE where one is named, and fails on items whose text is in BAD.
BODY = """
    import os, time

    def run(mini_batch):
        for path in mini_batch:
            open(os.path.join(os.environ["MARKS"], os.path.basename(path)), "a").write("x")
        while "GATE" in os.environ and not os.path.exists(os.environ["GATE"]):
            time.sleep(0.01)
        texts = [open(path).read() for path in mini_batch]
        if not os.path.exists(os.environ["REPAIRED"]):
            for text in texts:
                if text in os.environ["BAD"].split():
                    raise ValueError(f"no {text}")
        return texts
"""


class Story:
    """A job over files whose text is their number."""

    def __init__(self, folder: Path, client: Client, *, count: int = 12) -> None:
        self.folder, self.client = folder, client
        self.marks, self.repaired, self.gate = folder / "marks", folder / "repaired", folder / "gate"
        self.marks.mkdir()
        self.script = write_script(folder, BODY)
        self.paths = write_files(folder / "in", count)
        self.output = folder / "out"

    def submit(self, bad: str = "", *, gated: bool = False, **settings: Any) -> Job:
        variables = {"MARKS": str(self.marks), "REPAIRED": str(self.repaired), "BAD": bad}
        if gated:
            variables["GATE"] = str(self.gate)
        given = {"mini_batch_size": 4, "run_max_try": 1, "environment_variables": variables, **settings}
        return self.client.submit(self.script, self.folder / "in", self.output, **given)

    def end(self, job: Job) -> Job:
        return final(self.client, job.job_id)

    def runs(self) -> dict[int, int]:
        """How often each item was given to run(), since the last time that was asked for."""
        found = {int(path.stem[-5:]): len(path.read_text()) for path in self.marks.iterdir()}
        for path in self.marks.iterdir():
            path.unlink()
        return found


@pytest.fixture
def client(mesh: Mesh) -> Any:
    with Client(mesh.address) as connected:
        yield connected


@pytest.fixture
def story(client: Client, tmp_path: Path) -> Story:
    return Story(tmp_path, client)


def numbers(*left_out: int, count: int = 12) -> list[str]:
    return [str(number) for number in range(count) if number not in left_out]


def test_a_job_over_its_threshold_is_told_both_ways_out(story: Story) -> None:
    job = failed(story.end(story.submit("5")))
    with pytest.raises(errors.JobNotResumable, match=r"would fail again at once: 1 item failed.*--failed.*--error-thr"):
        story.client.resume(job.job_id)
    with pytest.raises(errors.SpecRefused, match="error_threshold"):
        story.client.resume(job.job_id, error_threshold=-7)
    assert story.client.get(job.job_id).state is JobState.FAILED
    assert story.client.get(job.job_id).spec == job.spec


def test_with_a_higher_threshold_what_failed_stays_failed_and_the_rest_runs(story: Story) -> None:
    job = failed(story.end(story.submit("5", process_count_per_node=1)))
    first = story.runs()
    story.repaired.touch()
    story.client.resume(job.job_id, error_threshold=1)
    done = succeeded(story.end(job))
    assert lines(done) == numbers(5)
    assert [line["item"] for line in failed_items(done)] == [str(story.paths[5])]
    again = story.runs()
    assert not {number for number, times in first.items() if times} & again.keys() - set(range(8, 12))
    assert 5 not in again
    adds_up(done)


def test_failed_items_run_again_with_a_repaired_script_and_no_others(story: Story, tmp_path: Path) -> None:
    job = succeeded(story.end(story.submit("5 6 11", error_threshold=-1)))
    assert lines(job) == numbers(5, 6, 11)
    story.runs()
    repaired = write_script(tmp_path / "repaired-source", BODY.replace("no {text}", "never {text}"))
    repaired.write_text(repaired.read_text().replace('os.environ["BAD"].split()', '["6"]'))
    told = command(
        tmp_path / "home",
        *("resume", job.job_id, "--failed", "--source-directory", repaired.parent, "--json"),
        *("--scheduler", story.client.address),
    )
    assert told.returncode == 0, told.stderr
    done = succeeded(story.end(job))
    assert lines(done) == numbers(6)
    again = story.runs()
    assert again.keys() == {5, 6, 11}
    assert again[11] == 1
    assert again[6] >= 2, "a lone item is tried twice"
    assert [(line["item"], "never 6" in line["error"]) for line in failed_items(done)] == [(str(story.paths[6]), True)]
    assert story.client.get(job.job_id).spec.source_digest != job.spec.source_digest
    adds_up(done)


def test_a_whole_mini_batch_that_failed_runs_again_whole(story: Story) -> None:
    job = failed(story.end(story.submit("5", isolate_failures=False)))
    assert len(failed_items(job)) == 4
    story.repaired.touch()
    story.runs()
    story.client.resume(job.job_id, failed=True)
    done = succeeded(story.end(job))
    assert lines(done) == numbers()
    again = story.runs()
    assert {number: again[number] for number in range(4, 8)} == dict.fromkeys(range(4, 8), 1)
    assert not failed_items(done)
    assert done.first_failure is None
    adds_up(done)


def test_the_output_of_a_job_that_succeeded_stays_until_the_new_one_replaces_it(story: Story) -> None:
    story.gate.touch()
    job = succeeded(story.end(story.submit("5", gated=True, error_threshold=1)))
    path = Path(job.output_path)
    before = path.read_bytes()
    story.gate.unlink()
    story.repaired.touch()
    story.runs()
    story.client.resume(job.job_id, failed=True)
    wait_for(lambda: list(story.marks.iterdir()), "the failed item runs again")
    assert path.read_bytes() == before
    with pytest.raises(errors.OutputReserved, match=job.job_id):
        story.client.submit(story.script, story.folder / "in", story.output)
    with path.open("rb") as reader:
        story.gate.touch()
        done = succeeded(story.end(job))
        assert reader.read() == before, "whoever reads the old output reads it to its end"
    assert lines(done) == numbers()
    assert set(os.listdir(story.output)) == {"job_report", path.name}


def test_a_job_that_is_cancelled_while_what_failed_runs_again_keeps_its_old_output(story: Story) -> None:
    story.gate.touch()
    job = succeeded(story.end(story.submit("5", gated=True, error_threshold=1)))
    path = Path(job.output_path)
    before = path.read_bytes()
    story.gate.unlink()
    story.repaired.touch()
    story.client.resume(job.job_id, failed=True)
    until(story.client, job.job_id, lambda job: job.progress.running_mini_batches > 0)
    story.client.cancel(job.job_id)
    assert story.end(job).state is JobState.CANCELLED
    assert path.read_bytes() == before
    story.gate.touch()
    story.client.resume(job.job_id)
    done = succeeded(story.end(job))
    assert lines(done) == numbers()
    adds_up(done)


def test_a_short_return_runs_again(client: Client, tmp_path: Path) -> None:
    body = """
        import os
        def run(mini_batch):
            return mini_batch if os.path.exists(os.environ["REPAIRED"]) else mini_batch[:1]
    """
    paths = write_files(tmp_path / "in", 4)
    repaired = tmp_path / "repaired"
    variables = {"REPAIRED": str(repaired)}
    script = write_script(tmp_path, body)
    job = client.submit(script, tmp_path / "in", tmp_path / "out", error_threshold=-1, environment_variables=variables)
    assert succeeded(final(client, job.job_id)).progress.failed_items == 3
    repaired.touch()
    client.resume(job.job_id, failed=True)
    done = succeeded(final(client, job.job_id))
    assert lines(done) == [str(path) for path in paths]
    adds_up(done)


def test_a_job_of_which_nothing_failed_has_nothing_to_run_again(story: Story) -> None:
    job = succeeded(story.end(story.submit()))
    with pytest.raises(errors.JobNotResumable, match="--failed"):
        story.client.resume(job.job_id)
    with pytest.raises(errors.JobNotResumable, match="Nothing of job"):
        story.client.resume(job.job_id, failed=True)


def test_a_folder_that_has_changed_since_shifts_nothing(story: Story) -> None:
    job = story.submit(gated=True, mini_batch_size=1, error_threshold=1)
    until(story.client, job.job_id, lambda job: job.progress.planning_ended)
    story.client.cancel(job.job_id)
    assert story.end(job).state is JobState.CANCELLED
    (story.folder / "in" / "a-new-one.txt").write_text("new")
    story.paths[7].unlink()
    story.gate.touch()
    story.client.resume(job.job_id)
    done = succeeded(story.end(job))
    assert lines(done) == numbers(7)
    (line,) = failed_items(done)
    assert line["item"] == str(story.paths[7])
    adds_up(done)


def test_a_file_that_could_not_be_read_stays_failed(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.csv").write_text(f"a\n{number}\n")
    (folder / "1.csv").write_bytes(b"\xff\xfe\x00\x00")
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n")
    job = failed(final(client, client.submit(script, folder, tmp_path / "out").job_id))
    assert job.error is not None
    with pytest.raises(errors.JobNotResumable, match="cannot be read"):
        client.resume(job.job_id, failed=True)
    client.resume(job.job_id, error_threshold=1)
    done = succeeded(final(client, job.job_id))
    assert [line["item"] for line in failed_items(done)] == [str(folder / "1.csv")]
    adds_up(done)


def test_two_resumes_at_once_are_one(story: Story) -> None:
    job = story.submit(gated=True)
    until(story.client, job.job_id, lambda job: job.progress.running_mini_batches > 0)
    story.client.cancel(job.job_id)
    story.end(job)
    story.runs()
    story.gate.touch()
    with ThreadPoolExecutor(4) as threads:
        resumed = list(threads.map(lambda _: story.client.resume(job.job_id), range(4)))
    assert {each.job_id for each in resumed} == {job.job_id}
    assert lines(succeeded(story.end(job))) == numbers()
    assert set(story.runs().values()) == {1}


def test_a_resumed_job_is_still_the_one_that_was_submitted(story: Story, tmp_path: Path) -> None:
    job_id = f"resumed-{tmp_path.name[-20:].lower().replace('_', '-')}"
    job = failed(story.end(story.submit("5", job_id=job_id)))
    story.client.resume(job_id, error_threshold=3)
    succeeded(story.end(job))
    assert story.submit("5", job_id=job_id).state is JobState.SUCCEEDED
    with pytest.raises(errors.JobExists):
        story.submit("5", job_id=job_id, error_threshold=3)


def test_a_listing_that_had_not_ended_goes_on_behind_its_cursor(tmp_path: Path) -> None:
    folder = tmp_path / "mesh"
    folder.mkdir()
    (tmp_path / "in").mkdir()
    for number in range(2_500):  # many times what is planned while a cancel is made durable
        (tmp_path / "in" / f"{number:04}.csv").write_text(f"row\n{number}\n")
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch.row.tolist()\n")
    with Mesh(folder, scheduler_options=("--durable-delay", "0.3")) as mesh, Client(mesh.address) as client:
        job = client.submit(script, tmp_path / "in", tmp_path / "out")
        until(client, job.job_id, lambda job: job.progress.planned_items > 0)
        client.cancel(job.job_id)
        cancelled = final(client, job.job_id)
        assert not cancelled.progress.planning_ended
        client.resume(job.job_id)
        done = succeeded(final(client, job.job_id))
        assert lines(done) == numbers(count=2_500)
        adds_up(done)


def test_a_resume_that_was_answered_outlives_the_scheduler(tmp_path: Path) -> None:
    folder = tmp_path / "mesh"
    folder.mkdir()
    with Mesh(folder) as mesh, Client(mesh.address) as client:
        story = Story(tmp_path, client)
        job = failed(story.end(story.submit("5", process_count_per_node=1)))
        story.client.resume(job.job_id, error_threshold=1)
        mesh.scheduler.kill()
        mesh.scheduler = mesh.start_scheduler(mesh.scheduler.address)
        done = succeeded(story.end(job))
        assert lines(done) == numbers(5)
        assert summary(done)["state"] == "SUCCEEDED"
        adds_up(done)
