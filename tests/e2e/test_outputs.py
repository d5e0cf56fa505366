"""Where outputs go: into a datastore, on to the next job, and from nodes that do not see the folder."""

from __future__ import annotations

import os
from pathlib import Path

from batchmesh.client import Client
from tests.support.mesh import Mesh
from tests.support.story import failed, final, lines, run_job, succeeded, summary, until, write_files, write_script

#: Writes the number in each file, doubled, into a file of its own under --output, and when it ends, their count.
DOUBLES = """
import argparse, os

parser = argparse.ArgumentParser()
parser.add_argument("--output")
output = parser.parse_known_args()[0].output
done = 0

def run(mini_batch):
    global done
    os.makedirs(os.path.join(output, "doubled"), exist_ok=True)
    for path in mini_batch:
        with open(path) as file, open(os.path.join(output, "doubled", os.path.basename(path)), "w") as doubled:
            doubled.write(str(2 * int(file.read())))
    done += len(mini_batch)
    return mini_batch

def shutdown():
    with open(os.path.join(output, f"done-{os.getpid()}"), "w") as file:
        file.write(str(done))
"""

NAMES = """
import os

def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch]
"""


def check_doubled(folder: Path, count: int) -> None:
    """What DOUBLES leaves of `count` files."""
    found = {path.name: path.read_text() for path in (folder / "doubled").iterdir()}
    assert found == {f"item-{number:05}.txt": str(2 * number) for number in range(count)}
    assert sum(int(path.read_text()) for path in folder.glob("done-*")) == count
    assert (folder / "job_report").is_dir()
    assert not list(folder.glob(".*"))


def test_what_one_job_puts_into_a_datastore_is_the_next_ones_input_without_its_report(
    mesh: Mesh, tmp_path: Path
) -> None:
    write_files(tmp_path / "in", 5)
    script, workspace = write_script(tmp_path, NAMES), "chain"
    first = "datastore://workspaceblobstore/chain/first"
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", first, workspace=workspace))
    folder = mesh.folder / "storage" / "datastore" / workspace / "chain" / "first"
    assert job.output_path == str(folder / "parallel_run_step.txt")
    assert lines(job) == [f"item-{number:05}.txt" for number in range(5)]
    for given, output in ((first, "second"), (str(folder), "third")):
        then = succeeded(run_job(mesh.address, script, given, tmp_path / output, workspace=workspace))
        assert lines(then) == ["parallel_run_step.txt"]


def test_a_job_that_fails_leaves_its_report_in_the_datastore(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 2)
    script = write_script(tmp_path, "def run(mini_batch):\n    raise ValueError\n")
    output = "datastore://workspaceblobstore/failing"
    job = failed(run_job(mesh.address, script, tmp_path / "in", output, run_max_try=1, workspace="failing"))
    assert summary(job)["state"] == "FAILED"
    assert os.listdir(mesh.folder / "storage" / "datastore" / "failing" / "failing") == ["job_report"]


def test_scripts_write_their_own_files_into_a_local_datastore(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 9)
    output = "datastore://workspaceblobstore/files"
    job = run_job(
        mesh.address, write_script(tmp_path, DOUBLES), tmp_path / "in", output, mini_batch_size=2,
        output_action="summary_only", workspace="files",
    )  # fmt: skip
    assert succeeded(job).output_path == str(mesh.folder / "storage" / "datastore" / "files" / "files")
    check_doubled(Path(job.output_path), 9)


def test_nodes_that_do_not_see_the_folder_send_what_their_scripts_write(tmp_path: Path) -> None:
    """Without its marker the folder is not the one that storage has; as with a node on another host."""
    write_files(tmp_path / "in", 20)
    script, output = write_script(tmp_path, DOUBLES), tmp_path / "out"
    with Mesh(tmp_path, agents=0) as mesh, Client(mesh.address) as client:
        inputs = [str(tmp_path / "in")]
        job = client.submit(script, inputs, output, mini_batch_size=2, output_action="summary_only")
        (output / f".batchmesh-{job.job_id}-marker").unlink()
        for _ in range(2):
            mesh.add_agent()
        job = succeeded(final(client, job.job_id))
        assert job.output_path == str(output)
        check_doubled(output, 20)
        assert job.progress.succeeded_items == 20


def test_files_that_a_node_has_sent_outlive_it(tmp_path: Path) -> None:
    body = DOUBLES.replace("    return mini_batch\n", "    time.sleep(0.2)\n    return mini_batch\n")
    script, output = write_script(tmp_path, f"import time\n{body}"), tmp_path / "out"
    paths = write_files(tmp_path / "in", 6)
    with Mesh(tmp_path, agents=0, slots=1) as mesh, Client(mesh.address) as client:
        inputs = [str(tmp_path / "in")]
        job = client.submit(script, inputs, output, mini_batch_size=1, output_action="summary_only")
        (output / f".batchmesh-{job.job_id}-marker").unlink()
        dying = mesh.add_agent()
        until(client, job.job_id, lambda job: job.progress.succeeded_items >= 2)
        dying.kill()
        mesh.add_agent()
        succeeded(final(client, job.job_id))
        found = {path.name: path.read_text() for path in (output / "doubled").iterdir()}
        assert found == {path.name: str(2 * number) for number, path in enumerate(paths)}
