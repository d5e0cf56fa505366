"""Telling a whole story: an entry script, some input, a job on a real mesh, and what a plain loop would have given."""

from __future__ import annotations

import json
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchmesh.client import Client
from batchmesh.job import Job, JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds within which any story ends.
PATIENCE = 60.0


def write_script(folder: Path, body: str, name: str = "script.py") -> Path:
    """An entry script in a folder of its own, so that nothing of the test is sent along with it."""
    home = folder / f"source-{name.removesuffix('.py')}"
    home.mkdir(parents=True, exist_ok=True)
    path = home / name
    path.write_text(textwrap.dedent(body))
    return path


def write_files(folder: Path, count: int, text: Callable[[int], str] = str) -> list[Path]:
    """`count` text files, whose bytewise order is their number's."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"item-{number:05}.txt" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_text(text(number))
    return paths


def run_job(
    address: str,
    script: Path,
    inputs: Path | Sequence[Path | str] | str,
    output: Path | str,
    patience: float = PATIENCE,
    **settings: Any,
) -> Job:
    """Submits a job and returns its final state; a job that does not end in time fails the test."""
    with Client(address) as client:
        given = [str(each) for each in inputs] if isinstance(inputs, list | tuple) else [str(inputs)]
        job = client.submit(script, given, output, attended=True, **settings)
        return final(client, job.job_id, patience)


def final(client: Client, job_id: str, patience: float = PATIENCE) -> Job:
    """Watches a job to its end."""
    return until(client, job_id, lambda job: job.state.is_final, patience)


def until(client: Client, job_id: str, wanted: Callable[[Job], bool], patience: float = PATIENCE) -> Job:
    """The first state of a job that is `wanted`; fails when it does not come in time, or the job ends without it."""
    deadline = time.monotonic() + patience
    job = None
    for job in client.watch(job_id):
        if wanted(job):
            return job
        assert time.monotonic() < deadline, f"not in {patience} s: {job}"
    raise AssertionError(f"the job ended without it: {job}")


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first truthy value of `condition`, asked again and again for at most `patience` seconds."""
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {patience} s"
        pause.wait(0.02)
    return value


def succeeded(job: Job) -> Job:
    assert job.state is JobState.SUCCEEDED, f"{job.state}: {job.error}"
    return job


def failed(job: Job) -> Job:
    assert job.state is JobState.FAILED, f"{job.state}: {job.error}"
    assert job.error is not None
    return job


def lines(job: Job) -> list[str]:
    """The lines of a job's text output."""
    return Path(job.output_path).read_text().splitlines()


def summary(job: Job) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((Path(job.report_path) / "summary.json").read_text())
    return loaded


def failed_items(job: Job) -> list[dict[str, Any]]:
    """The lines of failed_items.jsonl; none where the file is not there."""
    path = Path(job.report_path) / "failed_items.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def adds_up(job: Job) -> None:
    """Invariant 3: succeeded, failed and not reached are all there is, in the report as in the job's state."""
    items = summary(job)["items"]
    assert items["succeeded"] + items["failed"] + items["not_reached"] == items["planned"]
    assert items["succeeded"] == job.progress.succeeded_items
    assert items["failed"] == job.progress.failed_items == sum(line["count"] for line in failed_items(job))
