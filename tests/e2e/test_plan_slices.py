"""Large tables are planned by the nodes, part by part: the output is the plain loop's, whoever dies meanwhile."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmesh.client import Client
from batchmesh.health import is_serving
from batchmesh.job import JobState
from tests.chaos.follower import Follower
from tests.support.mesh import Mesh
from tests.support.story import (
    adds_up,
    failed_items,
    final,
    lines,
    run_job,
    succeeded,
    until,
    wait_for,
    write_script,
)
from tests.support.wire import Direction
from tests.support.wired_mesh import WiredMesh, streams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh.job import Job

REQUESTS, RESPONSES = Direction.REQUESTS, Direction.RESPONSES
#: Seconds within which a job ends of which something was killed.
PATIENCE = 60.0
#: Tables are looked into by nodes if they have more bytes than that, so many of them at once.
ABOVE, SLICE = 1024, 1000
COUNT = 3000
SCRIPT = """
    def run(rows):
        return [f"{x} {str(y)!r}" for x, y in zip(rows.x, rows.y)]
"""


def text(number: int) -> str:
    """A value with all that could lead astray who begins to read in it."""
    return ["plain", "comma, here", 'quote "here"', "line\nline", "end\r\nend", '"', "\n,\n", ""][number * number % 8]


def rows() -> list[tuple[int, str]]:
    return [(number, text(number)) for number in range(COUNT)]


def expected() -> list[str]:
    return [f"{x} {y!r}" for x, y in rows()]


def as_csv() -> bytes:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(("x", "y"))
    for row in rows():
        writer.writerow(row)
        if row[0] % 50 == 7:
            written.write("\n")
    return written.getvalue().encode()


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WiredMesh]:
    options = ("--scan-above", str(ABOVE), "--plan-slice", str(SLICE))
    with WiredMesh(tmp_path_factory.mktemp("mesh"), agents=2, lease=2.0, scheduler_options=options) as mesh:
        yield mesh


@dataclass
class Story:
    """A job over one table of a large CSV file."""

    folder: Path

    def __post_init__(self) -> None:
        self.script = write_script(self.folder, SCRIPT)
        self.table = self.folder / "table.csv"
        self.table.write_bytes(as_csv())

    def follow(self, mesh: WiredMesh, job_id: str) -> Follower:
        settings = {"mini_batch_size": "500"}
        return Follower(mesh.address, self.script, self.table, self.folder / "out", job_id, settings)

    def is_right(self, follower: Follower) -> None:
        assert follower.done.wait(PATIENCE), f"not within {PATIENCE} s: {follower.told[-1:]}"
        assert follower.error is None, follower.error
        job = succeeded(follower.job)
        assert lines(job) == expected()
        adds_up(job)


def write_table(folder: Path, kind: str) -> Path:
    path = folder / f"table.{kind}"
    columns = {"x": [x for x, _ in rows()], "y": [y for _, y in rows()]}
    if kind == "parquet":
        pq.write_table(pa.table(columns), path, row_group_size=700)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"x": x, "y": y}) + "\n" * (1 + x % 3) for x, y in rows()))
    else:
        path.write_bytes(gzip.compress(as_csv()) if kind == "csv.gz" else as_csv())
    return path


def ran(mesh: WiredMesh, folder: Path, table: Path, size: str, **settings: int) -> Job:
    return succeeded(
        run_job(mesh.address, write_script(folder, SCRIPT), table, folder / "out", mini_batch_size=size, **settings)
    )


@pytest.mark.parametrize("size", ["500", "7 rows", "1MB"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "csv.gz", "parquet"])
def test_a_table_that_nodes_plan_gives_what_a_plain_loop_gives(
    wired: WiredMesh, tmp_path: Path, kind: str, size: str
) -> None:
    looked = wired.wires[streams(0)].on("ScanTable", REQUESTS, lambda: None)
    if kind in ("csv.gz", "parquet"):
        looked = wired.wires[streams(0)].on("RunMiniBatches", REQUESTS, lambda: None)
    job = ran(wired, tmp_path, write_table(tmp_path, kind), size)
    assert lines(job) == expected()
    adds_up(job)
    assert looked.is_set()
    if size == "7 rows" and kind != "csv.gz":
        assert job.progress.planned_mini_batches == -(-COUNT // 7)


def test_a_quoted_field_that_never_ends_is_one_failed_row(wired: WiredMesh, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(as_csv() + b'7,"' + b"x\n" * 10_000)
    job = ran(wired, tmp_path, table, "500", error_threshold=1)
    assert lines(job) == expected()
    (item,) = failed_items(job)
    assert item["item"]["file"] == str(table)
    assert "a quoted field begins in this row and never ends" in item["error"]
    adds_up(job)


@pytest.mark.parametrize("direction", [REQUESTS, RESPONSES])
@pytest.mark.parametrize("nth", [1, 9])
def test_a_scheduler_that_dies_amid_planning_goes_on_where_the_plan_stood(
    wired: WiredMesh, tmp_path: Path, direction: Direction, nth: int
) -> None:
    story = Story(tmp_path)
    died = wired.wires[streams(0)].on("ScanTable", direction, wired.scheduler.kill, nth=nth)
    follower = story.follow(wired, f"scheduler-dies-{direction.name.lower()}-{nth}")
    assert died.wait(PATIENCE)
    wired.restart("scheduler")
    story.is_right(follower)


@pytest.mark.parametrize("direction", [REQUESTS, RESPONSES])
def test_what_a_node_was_asked_when_it_died_another_one_is(
    wired: WiredMesh, tmp_path: Path, direction: Direction
) -> None:
    story, before = Story(tmp_path), nodes_of(wired)
    died = wired.wires[streams(0)].on("ScanTable", direction, wired.agent(0).kill, nth=3)
    follower = story.follow(wired, f"node-dies-{direction.name.lower()}")
    assert died.wait(PATIENCE)
    story.is_right(follower)
    wired.restart("agent0")
    wait_for(lambda: len(nodes_of(wired)) == len(before) and nodes_of(wired) != before, "the node's next life")
    wait_for(lambda: is_serving(wired.wires[streams(0)].address), "the wire to the node's next life")


def nodes_of(mesh: WiredMesh) -> set[str]:
    with Client(mesh.address) as client:
        return {node.node_id for node in client.nodes()}


def test_a_job_over_a_large_table_waits_for_a_node_and_can_be_cancelled_before_one_comes(tmp_path: Path) -> None:
    story, size = Story(tmp_path), str(SLICE)
    with (
        Mesh(tmp_path, agents=0, scheduler_options=("--scan-above", str(ABOVE), "--plan-slice", size)) as mesh,
        Client(mesh.address) as client,
    ):
        jobs = [client.submit(story.script, str(story.table), tmp_path / f"out-{each}") for each in "ab"]
        for job in jobs:
            waits = until(client, job.job_id, lambda job: bool(job.waiting_for))
            assert "no node has joined" in waits.waiting_for
        client.cancel(jobs[0].job_id)
        assert final(client, jobs[0].job_id).state is JobState.CANCELLED
        mesh.add_agent()
        assert lines(succeeded(final(client, jobs[1].job_id))) == expected()
