"""A job's life beside its rows: cancelled, resumed, deleted, submitted again, and outliving its services."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchmesh import errors
from batchmesh.client import Client
from batchmesh.job import JobState
from tests.support.mesh import Mesh
from tests.support.story import (
    adds_up,
    failed,
    failed_items,
    final,
    lines,
    run_job,
    succeeded,
    summary,
    until,
    wait_for,
    write_files,
    write_script,
)

GATED = """
    import os, time

    def run(mini_batch):
        open(os.environ["MARK"], "a").write("x")
        deadline = time.monotonic() + 30
        while not os.path.exists(os.environ["GATE"]) and time.monotonic() < deadline:
            time.sleep(0.01)
        return [os.path.basename(path) for path in mini_batch]
"""


def submit_gated(client: Client, tmp_path: Path, **settings: object) -> str:
    write_files(tmp_path / "in", 10, str)
    environment = {"MARK": str(tmp_path / "mark"), "GATE": str(tmp_path / "gate")}
    job = client.submit(
        write_script(tmp_path, GATED),
        tmp_path / "in",
        tmp_path / "out",
        mini_batch_size=1,
        environment_variables=environment,
        **settings,  # type: ignore[arg-type]
    )
    until(client, job.job_id, lambda job: job.progress.running_mini_batches > 0)
    return job.job_id


def runs_begun(tmp_path: Path) -> int:
    mark = tmp_path / "mark"
    return mark.read_text().count("x") if mark.exists() else 0


def test_a_cancelled_job_ends_its_runs_and_leaves_its_report_alone(mesh: Mesh, tmp_path: Path) -> None:
    with Client(mesh.address) as client:
        job_id = submit_gated(client, tmp_path)
        client.cancel(job_id)
        job = final(client, job_id, patience=20)
        assert job.state is JobState.CANCELLED
        assert client.cancel(job_id).state is JobState.CANCELLED
    assert os.listdir(tmp_path / "out") == ["job_report"]
    assert summary(job)["state"] == "CANCELLED"
    assert summary(job)["items"]["not_reached"] == 10
    adds_up(job)


def test_a_cancelled_job_goes_on_where_it_was(mesh: Mesh, tmp_path: Path) -> None:
    with Client(mesh.address) as client:
        job_id = submit_gated(client, tmp_path)
        client.cancel(job_id)
        final(client, job_id)
        (tmp_path / "gate").touch()
        client.resume(job_id)
        job = succeeded(final(client, job_id))
    assert lines(job) == [f"item-{number:05}.txt" for number in range(10)]
    assert summary(job)["state"] == "SUCCEEDED"


def test_a_failed_job_that_is_resumed_runs_only_what_is_missing(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 12, str)
    script = write_script(
        tmp_path,
        """
        import os, time

        def run(mini_batch):
            name = os.path.basename(mini_batch[0])
            open(os.path.join(os.environ["MARKS"], name), "a").write("x")
            if name == "item-00011.txt" and not os.path.exists(os.environ["FIXED"]):
                deadline = time.monotonic() + 30
                while not os.path.exists(os.environ["GATE"]) and time.monotonic() < deadline:
                    time.sleep(0.01)
                raise RuntimeError("not yet")
            return [name]
        """,
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    with Client(mesh.address) as client:
        job = client.submit(
            script,
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=1,
            run_max_try=1,
            process_count_per_node=1,
            environment_variables={
                "MARKS": str(marks),
                "FIXED": str(tmp_path / "fixed"),
                "GATE": str(tmp_path / "gate"),
            },
        )
        until(client, job.job_id, lambda job: job.progress.succeeded_items == 11)
        (tmp_path / "gate").touch()
        broken = failed(final(client, job.job_id))
        assert [line["item"] for line in failed_items(broken)] == [str(tmp_path / "in" / "item-00011.txt")]
        (tmp_path / "fixed").touch()
        client.resume(job.job_id, failed=True)
        done = succeeded(final(client, job.job_id))
    assert lines(done) == [f"item-{number:05}.txt" for number in range(12)]
    runs = {path.name: len(path.read_text()) for path in marks.iterdir()}
    assert runs == {f"item-{number:05}.txt": 2 if number == 11 else 1 for number in range(12)}
    assert done.error is None
    adds_up(done)


def test_only_a_job_that_ended_badly_can_go_on(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 1, str)
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n")
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out"))
    with Client(mesh.address) as client, pytest.raises(errors.JobNotResumable):
        client.resume(job.job_id)


def test_a_job_that_has_ended_cannot_be_cancelled(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 1, str)
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n")
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out"))
    with Client(mesh.address) as client, pytest.raises(errors.JobEnded):
        client.cancel(job.job_id)


def test_the_same_job_submitted_twice_is_one_and_another_spec_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 3, str)
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n")
    job_id = f"same-{tmp_path.name[-20:].lower().replace('_', '-')}"
    with Client(mesh.address) as client:
        for _ in range(2):
            assert client.submit(script, tmp_path / "in", tmp_path / "out", job_id=job_id).job_id == job_id
        job = succeeded(final(client, job_id))
        again = client.submit(script, tmp_path / "in", tmp_path / "out", job_id=job_id)
        assert again.state is JobState.SUCCEEDED
        with pytest.raises(errors.JobExists):
            client.submit(script, paths[0], tmp_path / "out", job_id=job_id)
    assert lines(job) == [str(path) for path in paths]


def test_a_folder_that_a_job_writes_to_is_taken(mesh: Mesh, tmp_path: Path) -> None:
    with Client(mesh.address) as client:
        job_id = submit_gated(client, tmp_path)
        with pytest.raises(errors.OutputReserved, match=job_id):
            client.submit(write_script(tmp_path, GATED), tmp_path / "in", tmp_path / "out")
        client.cancel(job_id)
        final(client, job_id)


def test_a_folder_with_a_succeeded_output_is_refused_and_taken_with_overwrite(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 3, str)
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n")
    again = write_script(tmp_path, "def run(mini_batch):\n    return ['new'] * len(mini_batch)\n", "again.py")
    succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out"))
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(errors.OutputNotEmpty):
        run_job(mesh.address, again, tmp_path / "in", tmp_path / "out")
    job = succeeded(run_job(mesh.address, again, tmp_path / "in", tmp_path / "out", overwrite=True))
    assert lines(job) == ["new"] * 3
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_the_report_of_a_failed_job_does_not_hold_its_folder(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 3, str)
    bad = write_script(tmp_path, "def run(mini_batch):\n    return None\n", "bad.py")
    good = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n", "good.py")
    failed(run_job(mesh.address, bad, tmp_path / "in", tmp_path / "out", run_max_try=1))
    job = succeeded(run_job(mesh.address, good, tmp_path / "in", tmp_path / "out"))
    assert summary(job)["state"] == "SUCCEEDED"
    assert not (tmp_path / "out" / "job_report" / "failed_items.jsonl").exists()


def test_a_deleted_job_is_unknown_and_its_output_stays(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 3, str)
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n")
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out"))
    with Client(mesh.address) as client:
        assert b"".join(client.read_output(job.job_id)) == Path(job.output_path).read_bytes()
        client.delete(job.job_id)
        with pytest.raises(errors.NoJob):
            client.get(job.job_id)
    assert len(lines(job)) == 3


def test_jobs_are_listed_the_newest_first(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 1, str)
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n")
    ids = [run_job(mesh.address, script, tmp_path / "in", tmp_path / f"out-{number}").job_id for number in range(3)]
    with Client(mesh.address) as client:
        listed = [job.job_id for job in client.list() if job.job_id in ids]
    assert listed == ids[::-1]


def test_a_job_outlives_its_scheduler_and_a_watcher_notices_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "mesh"
    folder.mkdir()
    with Mesh(folder) as mesh, Client(mesh.address) as client:
        job_id = submit_gated(client, tmp_path)
        states = client.watch(job_id)
        next(states)
        address = mesh.scheduler.address
        mesh.scheduler.kill()
        mesh.scheduler = mesh.start_scheduler(address)
        (tmp_path / "gate").touch()
        *_, job = states
        succeeded(job)
    assert lines(job) == [f"item-{number:05}.txt" for number in range(10)]
    adds_up(job)


def test_a_job_outlives_its_storage(tmp_path: Path) -> None:
    folder = tmp_path / "mesh"
    folder.mkdir()
    with Mesh(folder) as mesh, Client(mesh.address) as client:
        job_id = submit_gated(client, tmp_path)
        address = mesh.storage.address
        mesh.storage.kill()
        (tmp_path / "gate").touch()
        wait_for(lambda: runs_begun(tmp_path) >= 10, "all runs to have begun")
        mesh.storage = mesh.start("storage", "--listen", address, "--root", str(folder / "storage"))
        job = succeeded(final(client, job_id))
    assert lines(job) == [f"item-{number:05}.txt" for number in range(10)]
