"""The scheduler and storage, killed between the steps that make several jobs one pipeline: all of it goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.client import Client
from tests.support.pipeline import TOTAL, ThreeSteps
from tests.support.story import final, lines, succeeded, wait_for
from tests.support.wire import Direction
from tests.support.wired_mesh import CLIENT, COMMITS, WiredMesh, streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batchmesh.job import Job

REQUESTS, RESPONSES = Direction.REQUESTS, Direction.RESPONSES
#: Seconds within which a pipeline ends of which something was killed.
PATIENCE = 60.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WiredMesh]:
    with WiredMesh(tmp_path_factory.mktemp("mesh"), agents=1, lease=30.0) as running:
        yield running


@dataclass(frozen=True)
class Step:
    """One message: the victim is killed before it passes, or right after it has."""

    name: str
    victim: str
    wire: str
    method: str
    direction: Direction
    nth: int = 1
    after: bool = False
    where: Callable[[Any], bool] = lambda _: True


def opens(request: Any) -> bool:
    return bool(request.HasField("open"))


SUBMITTED = [
    Step("one of three outputs is reserved", "scheduler", COMMITS, "ReserveOutput", REQUESTS, nth=2),
    Step("all outputs are reserved and that not answered", "scheduler", COMMITS, "ReserveOutput", RESPONSES, nth=3),
    Step("all are accepted and that not answered", "scheduler", CLIENT, "SubmitJobs", RESPONSES),
    Step("the output of the first step is there", "scheduler", COMMITS, "CommitOutput", RESPONSES, after=True),
    Step("the second step begins", "scheduler", streams(0), "RunMiniBatches", REQUESTS, nth=2, where=opens),
    Step("storage dies with one output reserved", "storage", COMMITS, "ReserveOutput", RESPONSES, nth=2),
]
TAKEN = [
    Step("an output is to be copied", "scheduler", COMMITS, "CopyOutput", REQUESTS),
    Step("an output is copied and that not answered", "scheduler", COMMITS, "CopyOutput", RESPONSES),
    Step("the second output is copied", "scheduler", COMMITS, "CopyOutput", RESPONSES, nth=2, after=True),
    Step("storage is to copy an output", "storage", COMMITS, "CopyOutput", REQUESTS, after=True),
    Step("storage has copied an output", "storage", COMMITS, "CopyOutput", RESPONSES),
]


def named(step: Step) -> str:
    return step.name.replace(" ", "-")


def run(mesh: WiredMesh, story: ThreeSteps) -> list[Job]:
    """To its end, by a client that is told of no error."""
    with Client(mesh.address) as client:
        client.mesh()  # a mesh that has answered once is waited for longer
        client.submit_many(story.jobs())
        return [succeeded(final(client, job_id, PATIENCE)) for job_id in story.ids]


def dies_at(mesh: WiredMesh, step: Step, story: ThreeSteps) -> list[Job]:
    passed = mesh.wires[step.wire].on(
        step.method, step.direction, mesh.parts[step.victim].kill, where=step.where, nth=step.nth, after=step.after
    )
    with ThreadPoolExecutor(1) as client:
        ended = client.submit(run, mesh, story)
        wait_for(lambda: passed.is_set() or ended.done(), "the step, or the end without it", PATIENCE)
        assert passed.is_set(), "the step never came"
        mesh.restart(step.victim)
        jobs = ended.result(PATIENCE)
    assert lines(jobs[-1]) == [str(TOTAL)]
    return jobs


@pytest.mark.parametrize("step", SUBMITTED, ids=named)
def test_a_death_at_any_step_costs_a_pipeline_nothing(mesh: WiredMesh, tmp_path: Path, step: Step) -> None:
    dies_at(mesh, step, ThreeSteps(tmp_path, f"s{SUBMITTED.index(step)}"))


@pytest.mark.parametrize("step", TAKEN, ids=named)
def test_a_death_at_any_step_costs_no_output_that_is_taken(mesh: WiredMesh, tmp_path: Path, step: Step) -> None:
    number = TAKEN.index(step)
    apart: Any = {"allow_reuse": True, "workspace": f"deaths-{number}"}
    first = run(mesh, ThreeSteps(tmp_path, f"t{number}", **apart))
    again = ThreeSteps(tmp_path, f"again{number}", outputs="again", **apart)
    jobs = dies_at(mesh, step, again)
    assert [(job.reused_from, job.not_reused) for job in jobs] == [(job.job_id, "") for job in first]
