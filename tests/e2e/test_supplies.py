"""Models and side inputs of a job, from the command line and back: on each node before its first mini-batch."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.client import Client
from batchmesh.entries import Entry, LocalFolder
from batchmesh.errors import Refused
from tests.support.story import lines, run_job, succeeded, write_files, write_script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mesh import Mesh

#: Adds what its models and side inputs say to what an item says.
SCRIPT = """
    import argparse, os
    from azureml.core import Model

    parser = argparse.ArgumentParser()
    parser.add_argument("--words")
    words = parser.parse_known_args()[0].words

    def text(path):
        if os.path.isdir(path):
            return "".join(text(os.path.join(path, each)) for each in sorted(os.listdir(path)))
        return open(path).read()

    def run(mini_batch):
        names = sorted(os.listdir(os.environ["AZUREML_MODEL_DIR"]))
        models = "".join(text(Model.get_model_path(each)) for each in names)
        return [open(path).read() + models + (text(words) if words else "") for path in mini_batch]
"""


@pytest.fixture
def workspace(tmp_path: Path) -> str:
    """Of the test's own."""
    return tmp_path.name


@pytest.fixture
def script(tmp_path: Path) -> Path:
    write_files(tmp_path / "in", 2, str)
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "a").write_text("A")
    (tmp_path / "folder" / "deep" / "b").write_text("B")
    (tmp_path / "file").write_text("F")
    return write_script(tmp_path, SCRIPT)


def batchmesh(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "batchmesh.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_registers_models_and_sends_side_inputs(
    mesh: Mesh, tmp_path: Path, script: Path, workspace: str
) -> None:
    where = ["--scheduler", mesh.address, "--workspace", workspace]

    def run(output: str, *options: str) -> str:
        paths = ["--input", tmp_path / "in", "--output", tmp_path / output]
        done = batchmesh("run", script, *paths, *where, *options, "--", "--words", "{words}")
        assert done.returncode == 0, done.stderr
        return (tmp_path / output / "parallel_run_step.txt").read_text()

    words = f"words={tmp_path / 'folder'}"
    assert run("one", "--model", f"m={tmp_path / 'file'}", "--side-input", words) == "0FAB\n1FAB\n"
    (tmp_path / "file").write_text("G")
    again = ["--model", f"m={tmp_path / 'file'}", "--side-input", f"words={tmp_path / 'file'}"]
    assert run("two", *again) == "0GG\n1GG\n"
    assert run("three", "--model", "m", "--side-input", words) == "0GAB\n1GAB\n", "the newest"
    assert run("four", "--model", "m:1", "--side-input", words) == "0FAB\n1FAB\n"


def test_a_side_input_may_lie_in_a_datastore(mesh: Mesh, tmp_path: Path, script: Path, workspace: str) -> None:
    with Client(mesh.address) as client:
        client.catalog.register(Entry("here", LocalFolder(str(tmp_path)), workspace=workspace))
    for number, (place, text) in enumerate({"folder": "AB", "file": "F"}.items()):
        job = run_job(
            mesh.address,
            script,
            tmp_path / "in",
            tmp_path / f"out-{number}",
            workspace=workspace,
            arguments=["--words", "{words}"],
            side_inputs={"words": f"datastore://here/{place}"},
        )
        assert lines(succeeded(job)) == [f"0{text}", f"1{text}"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a model that is not registered": ({"models": ["nobody"]}, "nobody"),
    "a version that is not there": ({"models": ["m:7"]}, "version 7"),
    "a file that is not there": ({"models": ["m=/nowhere/at/all"]}, "There is no file or folder /nowhere/at/all"),
    "a side input that is not there": ({"side_inputs": {"words": "/nowhere"}}, "for the side input words; check"),
    "an unknown datastore": (
        {"side_inputs": {"words": "datastore://nobody/x"}},
        "The side input words cannot be used: ",
    ),
    "nothing in the datastore": (
        {"side_inputs": {"words": "datastore://here/nothing"}},
        "The side input words cannot be used: ",
    ),
    "one twice": ({"models": ["m", "m"]}, "models has m twice; name each once."),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_supplied_is_one_sentence_before_anything_runs(
    mesh: Mesh, tmp_path: Path, script: Path, workspace: str, what: str
) -> None:
    settings, sentence = WRONG[what]
    with Client(mesh.address) as client:
        client.catalog.register_model("m", tmp_path / "file", workspace=workspace)
        client.catalog.register(Entry("here", LocalFolder(str(tmp_path)), workspace=workspace))
        with pytest.raises(Refused) as refused:
            client.submit(
                script, [str(tmp_path / "in")], tmp_path / "out", attended=True, workspace=workspace, **settings
            )
    assert sentence in str(refused.value)
    assert not (tmp_path / "out").exists()
