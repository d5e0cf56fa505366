"""Jobs that have ended are forgotten by themselves: their number and their bytes stay bounded, their outputs stay."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from batchmesh import errors
from batchmesh.client import Client
from tests.support.mesh import Mesh
from tests.support.story import final, lines, run_job, succeeded, wait_for, write_files, write_script

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh.job import Job

ROWS = """
    def run(mini_batch):
        print("a line for the log of each run")
        return ["x" * 1000 for _ in mini_batch]
"""
#: What storage may keep, and what one job of ROWS takes of it at most.
KEEP, ONE = 200_000, 60_000


def bytes_below(folder: Path) -> int:
    """Of a folder in which files and folders come and go."""
    found = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found += os.stat(os.path.join(path, name)).st_blocks * 512
    return found


def pages(folder: Path) -> int:
    with sqlite3.connect(folder / "state" / "scheduler.sqlite3") as db:
        count: int = db.execute("PRAGMA page_count").fetchone()[0]
    db.close()
    return count


def forgotten(client: Client, job_id: str) -> bool:
    try:
        client.get(job_id)
    except errors.NoJob:
        return True
    return False


def test_a_hundred_jobs_leave_a_bounded_disk(tmp_path: Path) -> None:
    folder = tmp_path / "mesh"
    folder.mkdir()
    write_files(tmp_path / "in", 20)
    script = write_script(tmp_path, ROWS)
    options = ("--keep-bytes", f"{KEEP}", "--housekeeping", "0.2")
    with Mesh(folder, scheduler_options=options) as mesh, Client(mesh.address) as client:

        def jobs(begin: int, end: int) -> list[Job]:
            given = [
                client.submit(script, tmp_path / "in", tmp_path / f"out-{number}", mini_batch_size=1)
                for number in range(begin, end)
            ]
            for job in given:
                with suppress(errors.NoJob):  # it has ended and is forgotten already
                    succeeded(final(client, job.job_id))
            return given

        early = [job for begin in range(0, 20, 10) for job in jobs(begin, begin + 10)]
        wait_for(lambda: bytes_below(folder / "storage") < KEEP + ONE, "storage is below its limit")
        size = pages(folder)
        late = [job for begin in range(20, 100, 10) for job in jobs(begin, begin + 10)]
        wait_for(lambda: bytes_below(folder / "storage") < KEEP + ONE, "storage is below its limit again")
        assert pages(folder) <= 2 * size, "what was deleted made room for what came"
        assert len(early) + len(late) == 100
        assert 1 <= len(list(client.list())) <= KEEP // 20_000, "each job has 20 rows of 1000 bytes"
        assert not forgotten(client, late[-1].job_id)
    for number in range(100):
        assert (tmp_path / f"out-{number}" / "parallel_run_step.txt").stat().st_size == 20 * 1001


def test_a_job_that_ended_too_long_ago_is_forgotten_and_its_output_stays(tmp_path: Path) -> None:
    folder = tmp_path / "mesh"
    folder.mkdir()
    write_files(tmp_path / "in", 3)
    script = write_script(tmp_path, ROWS)
    seconds = 1.0
    options = ("--keep-days", f"{seconds / 86_400:.9f}", "--housekeeping", "0.2")
    with Mesh(folder, scheduler_options=options) as mesh, Client(mesh.address) as client:
        job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out"))
        wait_for(lambda: forgotten(client, job.job_id), "the job is forgotten")
        assert client.logs(job.job_id) == ()
        with pytest.raises(errors.NoJob):
            client.resume(job.job_id, failed=True)
    assert len(lines(job)) == 3
