"""Jobs whose inputs are named by datastores and datasets: a folder of this host, which every node sees."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.client import Client
from batchmesh.entries import Dataset, Entry, LocalFolder
from tests.support.story import adds_up, failed_items, lines, run_job, succeeded, write_files, write_script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mesh import Mesh

READ = """
    def run(paths):
        if any(path.endswith("00003.txt") for path in paths):
            raise ValueError("bad")
        return [open(path).read() for path in paths]
"""
ROWS = """
    def run(rows):
        return [f"{x} {y}" for x, y in zip(rows.x, rows.y)]
"""


@pytest.fixture
def folder(mesh: Mesh, tmp_path: Path) -> Path:
    """A datastore of a workspace of the test's own name, in which a dataset of two versions is registered."""
    here = tmp_path / "data"
    write_files(here / "texts", 7, lambda number: f"text {number}")
    (here / "rows").mkdir()
    for name in "ab":
        (here / f"rows/{name}.csv").write_text("x,y\n" + "".join(f"{number},{name}\n" for number in range(5)))
    with Client(mesh.address) as client:
        client.catalog.register(Entry("data", LocalFolder(str(here)), workspace=tmp_path.name), overwrite=True)
        for path in ("a.csv", "b.csv"):
            content = Dataset("csv", (f"datastore://data/rows/{path}",), csv_types={"x": "string"})
            client.catalog.register(Entry("rows", content, workspace=tmp_path.name), overwrite=True)
    return here


def batchmesh(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "batchmesh.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_files_of_a_local_datastore_are_run_where_they_lie(mesh: Mesh, folder: Path, tmp_path: Path) -> None:
    script = write_script(tmp_path, READ)
    settings: dict[str, Any] = {
        "workspace": tmp_path.name,
        "mini_batch_size": 3,
        "error_threshold": 1,
        "run_max_try": 1,
    }
    inputs = ["datastore://data/texts", f"{folder}/texts/item-00000.txt"]
    job = succeeded(run_job(mesh.address, script, inputs, tmp_path / "out", **settings))
    assert lines(job) == [f"text {number}" for number in (0, 1, 2, 4, 5, 6, 0)]
    assert [each["item"] for each in failed_items(job)] == [f"{folder}/texts/item-00003.txt"]
    adds_up(job)


def test_a_dataset_stands_for_its_paths_and_columns(mesh: Mesh, folder: Path, tmp_path: Path) -> None:
    script = write_script(tmp_path, ROWS)
    inputs = ["dataset:rows:1", "dataset:rows", "datastore://data/rows/*.csv"]
    job = succeeded(
        run_job(mesh.address, script, inputs, tmp_path / "out", workspace=tmp_path.name, mini_batch_size="2 rows")
    )
    assert lines(job) == [f"{number} {name}" for name in "abab" for number in range(5)]
    assert dict(job.spec.csv_types) == {"x": "string"}
    assert job.spec.inputs == (
        "datastore://data/rows/a.csv",
        "datastore://data/rows/b.csv",
        "datastore://data/rows/*.csv",
    )


def test_the_command_line_takes_datasets_and_datastores(mesh: Mesh, folder: Path, tmp_path: Path) -> None:
    script, output = write_script(tmp_path, ROWS), tmp_path / "out"
    mine = ("run", script, "--scheduler", mesh.address, "--workspace", tmp_path.name, "--output", output)
    done = batchmesh(*mine, "--input", "dataset:rows", "--input", "datastore://data/rows/a.csv")
    assert done.returncode == 0, done.stderr
    written = (output / "parallel_run_step.txt").read_text().splitlines()
    assert written == [f"{number} {name}" for name in "ba" for number in range(5)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("dataset:gone", ("dataset", "gone")),
        ("dataset:rows:3", ("rows", "3")),
        ("dataset:rows:x", ("'dataset:rows:x' names no dataset",)),
        ("datastore://gone/x.csv", ("datastore", "gone")),
        ("datastore://data/gone.csv", ("/data/gone.csv", "does not exist; check the path")),
        ("datastore://data/rows/*.xml", ("matches no file",)),
        ("datastore://data/../x", ("malformed reference",)),
    ],
)
def test_what_there_is_not_is_one_sentence_at_submission(
    mesh: Mesh, folder: Path, tmp_path: Path, given: str, words: tuple[str, ...]
) -> None:
    del folder
    script, output = write_script(tmp_path, ROWS), tmp_path / "out"
    mine = ("run", script, "--scheduler", mesh.address, "--workspace", tmp_path.name, "--output", output)
    done = batchmesh(*mine, "--input", given)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("batchmesh: ")]
    for word in words:
        assert word in line, line
    assert not output.exists()
