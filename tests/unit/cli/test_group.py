"""Every command and option is there, and the exit status of what is refused before any mesh is asked."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from batchmesh import errors
from batchmesh.cli import CANCELLED, NO_MESH, REFUSED, main, status_of
from batchmesh.cli.group import group

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = (
    *("run", "submit", "jobs", "show", "watch", "cancel", "resume", "rm", "logs", "nodes"),
    *("up", "storage", "scheduler", "agent"),
)
RUN_OPTIONS = {
    *("--input", "--output", "--source-directory", "--mini-batch-size", "--error-threshold"),
    *("--allowed-failed-count", "--allowed-failed-percent", "--output-action", "--append-row-file-name"),
    *("--process-count-per-node", "--node-count", "--compute-target", "--run-invocation-timeout", "--run-max-try"),
    *("--task-overhead-timeout", "--progress-update-timeout", "--logging-level", "--environment-variable"),
    "--environment",
    *(
        "--isolate-failures",
        "--backup-attempts",
        "--input-type",
        "--csv-header",
        "--csv-types",
        "--overwrite",
        "--scheduler",
        "--home",
        "--json",
    ),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test here may reach a mesh; if one does, it is not the user's."""
    monkeypatch.setenv("BATCHMESH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def command(name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert isinstance(found, click.Command)
    return found


def options_of(name: str) -> set[str]:
    return {option for parameter in command(name).params for option in parameter.opts}


def test_every_command_is_there() -> None:
    for name in COMMANDS:
        assert command(name).help


@pytest.mark.parametrize("name", ["run", "submit"])
def test_every_option_of_a_job_is_there(name: str) -> None:
    assert options_of(name) >= RUN_OPTIONS


def test_every_option_of_a_resume_is_there() -> None:
    assert options_of("resume") >= {"--failed", "--error-threshold", "--run-invocation-timeout", "--source-directory"}


@pytest.mark.parametrize("name", [each for each in COMMANDS if each not in ("up", "storage", "scheduler", "agent")])
def test_every_client_command_takes_json_and_a_mesh(name: str) -> None:
    assert {"--json", "--home", "--scheduler"} <= options_of(name)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("batchmesh ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], ""),
        (["fly"], "No such command"),
        (["run"], "Missing"),
        (["run", "s.py", "--input", "in", "--output", "out", "--mini-batchsize", "3"], "--mini-batch-size"),
        (["run", "s.py", "--input", "in", "--output", "out", "--error-threshold", "many"], "many"),
        (["run", "s.py", "--input", "in", "--output", "out", "--input-type", "xml"], "xml"),
        (["run", "s.py", "--input", "in", "--output", "out", "--environment-variable", "A"], "NAME=VALUE"),
        (["run", "s.py", "--input", "in", "--output", "out", "--csv-types", "id"], "NAME=VALUE"),
        (["run", "s.py", "--input", "in", "--output", "out", *2 * ["--side-input", "a=b"]], "'a' is given twice"),
        (["run", "none.py", "--input", "in", "--output", "out"], "does not exist"),
        (["jobs", "--scheduler", "nowhere"], "HOST:PORT"),
        (["up", "--listen", "0.0.0.0:0"], "--insecure"),
        (["up", "--listen", "0.0.0.0:0", "--insecure"], "Nobody can call"),
    ],
)
def test_what_is_refused_is_one_sentence_and_status_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert main(arguments) == REFUSED
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert "Traceback" not in shown.err
    assert not home.exists(), "nothing was started for it"


def test_no_mesh_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "--scheduler", "127.0.0.1:1"]) == NO_MESH
    assert capsys.readouterr().err.startswith("batchmesh: The mesh at 127.0.0.1:1 does not answer")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NoJob(""), 2),
        (errors.OutputNotEmpty(""), 2),
        (errors.JobCommitting(""), 2),
        (errors.MeshEmbedded(""), 3),
        (errors.MeshUnreachable(""), 3),
        (errors.DeadlineExceeded(""), 3),
        (errors.ServiceFailed(""), 1),
        (errors.DiskFull(""), 1),
    ],
)
def test_each_error_has_its_status(error: errors.BatchmeshError, status: int) -> None:
    assert status_of(error) == status


def test_the_command_line_loads_no_grpc_before_it_is_needed() -> None:
    code = "from batchmesh.cli import main; main(['--version']); import sys; print({'grpc', 'rich'} & {*sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.endswith("set()\n")


def test_the_status_of_a_cancelled_job_is_that_of_an_interrupted_command() -> None:
    assert CANCELLED == 130
