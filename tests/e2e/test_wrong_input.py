"""What wrong input gets at the command line: one clear sentence and the right exit status, before anything runs."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.support.story import write_files, write_script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mesh import Mesh

GOOD = "def run(mini_batch):\n    return mini_batch\n"
REFUSED, UNREACHED = 2, 3
#: What makes root obey file permissions; nobody else needs it.
WITHOUT_PRIVILEGE = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--") if os.geteuid() == 0 else ()


def batchmesh(*arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "batchmesh.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def one_sentence(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """The command ended with `status` and said one line for a person, which has all of `words`."""
    assert done.returncode == status, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("batchmesh: ")]
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in line, line


class Refusing(Protocol):
    """Runs a good job with one thing changed, and asserts how it was refused."""

    def __call__(
        self,
        *words: str,
        script: object = ...,
        inputs: object = ...,
        output: object = ...,
        options: tuple[object, ...] = ...,
    ) -> None: ...


@pytest.fixture
def refused(mesh: Mesh, tmp_path: Path) -> Refusing:
    write_files(tmp_path / "in", 2, str)
    good = write_script(tmp_path, GOOD, "good.py")

    def run(
        *words: str,
        script: object = good,
        inputs: object = tmp_path / "in",
        output: object = tmp_path / "out",
        options: tuple[object, ...] = (),
    ) -> None:
        done = batchmesh("run", script, "--input", inputs, "--output", output, "--scheduler", mesh.address, *options)
        one_sentence(done, REFUSED, *words)

    return run


def test_a_missing_script(refused: Refusing, tmp_path: Path) -> None:
    refused("nowhere.py", script=tmp_path / "nowhere.py")


def test_a_script_with_a_syntax_error_is_named_with_its_line(refused: Refusing, tmp_path: Path) -> None:
    refused("bad.py", "line 2", script=write_script(tmp_path, "import os\ndef run(:\n", "bad.py"))


def test_a_script_without_run(refused: Refusing, tmp_path: Path) -> None:
    refused("run", script=write_script(tmp_path, "def init():\n    pass\n", "idle.py"))


def test_an_input_that_is_not_there(refused: Refusing, tmp_path: Path) -> None:
    refused("nothing", inputs=tmp_path / "nothing")


def test_an_empty_input(refused: Refusing, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused("empty", inputs=tmp_path / "empty")


def test_a_glob_that_matches_nothing(refused: Refusing, tmp_path: Path) -> None:
    refused("*.png", inputs=f"{tmp_path}/in/*.png")


def test_an_unreadable_file(tmp_path: Path) -> None:
    """With a mesh of its own, whose processes obey permissions even where the suite is run by root."""
    (path,) = write_files(tmp_path / "in", 1, str)
    path.chmod(0)
    script = write_script(tmp_path, GOOD)
    done = batchmesh(
        "run",
        script,
        "--input",
        path,
        "--output",
        tmp_path / "out",
        "--home",
        tmp_path / "home",
        prefix=WITHOUT_PRIVILEGE,
    )
    one_sentence(done, REFUSED, str(path))


def test_an_output_without_permission_to_write(tmp_path: Path) -> None:
    """As above, with a mesh that obeys permissions."""
    write_files(tmp_path / "in", 1, str)
    (tmp_path / "out").mkdir(mode=0o555)
    script = write_script(tmp_path, GOOD)
    paths = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--home", tmp_path / "home")
    one_sentence(batchmesh("run", script, *paths, prefix=WITHOUT_PRIVILEGE), REFUSED, str(tmp_path / "out"))


def test_an_environment_variable_that_no_process_can_have(refused: Refusing) -> None:
    refused("environment-variable", options=("--environment-variable", "=x"))


def test_an_output_that_cannot_be_made(refused: Refusing, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(str(tmp_path / "file" / "out"), output=tmp_path / "file" / "out")


def test_an_output_that_is_not_empty(refused: Refusing, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused("not empty", "--overwrite", output=tmp_path / "full")


def test_an_unknown_option(refused: Refusing) -> None:
    mini = ("--mini-batch-sise", "5")
    done = batchmesh("run", "s.py", *mini)
    assert done.returncode == REFUSED
    assert "--mini-batch-sise" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--run-max-try", "0", "run_max_try"),
        ("--error-threshold", "-2", "error_threshold"),
        ("--allowed-failed-percent", "101", "allowed_failed_percent"),
        ("--run-invocation-timeout", "0", "run_invocation_timeout"),
        ("--run-invocation-timeout", "259201", "run_invocation_timeout"),
        ("--process-count-per-node", "0", "process_count_per_node"),
        ("--mini-batch-size", "ten", "mini_batch_size"),
        ("--mini-batch-size", "1MB", "mini_batch_size"),
        ("--mini-batch-size", "5 rows", "mini_batch_size"),
        ("--append-row-file-name", "a?b", "append_row_file_name"),
    ],
)
def test_a_setting_out_of_its_range(refused: Refusing, option: str, value: str, word: str) -> None:
    refused(word, options=(option, value))


def test_an_input_of_mixed_kinds(refused: Refusing, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    refused("t.csv", options=("--input", tmp_path / "t.csv"))


def test_a_reserved_argument_is_refused_by_name(refused: Refusing) -> None:
    refused("--output", options=("--", "--output", "elsewhere"))


def test_a_source_folder_that_does_not_hold_the_script(refused: Refusing, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    refused("good.py", options=("--source-directory", tmp_path / "other"))


def test_a_return_of_the_wrong_type_fails_the_job_and_names_the_type(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 2, str)
    script = write_script(tmp_path, "def run(mini_batch):\n    return None\n")
    done = batchmesh(
        "run", script, "--input", tmp_path / "in", "--output", tmp_path / "out", "--scheduler", mesh.address
    )
    assert done.returncode == 1
    assert "None" in done.stderr


def test_a_failed_job_shows_the_first_user_traceback(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 2, str)
    script = write_script(tmp_path, "def run(mini_batch):\n    raise KeyError('the cause')\n")
    done = batchmesh(
        "run", script, "--input", tmp_path / "in", "--output", tmp_path / "out", "--scheduler", mesh.address
    )
    assert done.returncode == 1
    assert "KeyError: 'the cause'" in done.stderr
    assert "Traceback (most recent call last):" in done.stderr
    assert str(tmp_path / "out" / "job_report") in done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("command", ["jobs", "nodes", "submit", "run"])
def test_a_mesh_that_is_not_there(tmp_path: Path, command: str) -> None:
    write_files(tmp_path / "in", 1, str)
    script = write_script(tmp_path, GOOD)
    job = (script, "--input", tmp_path / "in", "--output", tmp_path / "out") if command in ("submit", "run") else ()
    address = f"127.0.0.1:{free_port()}"
    one_sentence(batchmesh(command, *job, "--scheduler", address), UNREACHED, address)


def test_a_home_whose_lock_is_held_while_no_mesh_answers(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one_sentence(batchmesh("jobs", "--home", home), UNREACHED, str(home))


@pytest.mark.parametrize("command", ["show", "watch", "cancel", "resume", "rm"])
def test_an_unknown_job(mesh: Mesh, command: str) -> None:
    one_sentence(batchmesh(command, "no-such-job", "--scheduler", mesh.address), REFUSED, "no-such-job")


@pytest.mark.parametrize("service", ["scheduler", "storage", "agent", "up"])
def test_a_port_in_use(tmp_path: Path, service: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        options = {
            "scheduler": ("--storage", "127.0.0.1:1", "--state", tmp_path / "state"),
            "storage": ("--root", tmp_path / "root"),
            "agent": ("--scheduler", "127.0.0.1:1", "--work", tmp_path / "work"),
            "up": ("--home", tmp_path / "home"),
        }[service]
        one_sentence(batchmesh(service, "--listen", address, *options), REFUSED, address)


@pytest.mark.parametrize("service", ["scheduler", "storage", "agent"])
def test_a_service_beyond_loopback_needs_leave(tmp_path: Path, service: str) -> None:
    options = {
        "scheduler": ("--storage", "127.0.0.1:1", "--state", tmp_path / "state"),
        "storage": ("--root", tmp_path / "root"),
        "agent": ("--scheduler", "127.0.0.1:1", "--work", tmp_path / "work"),
    }[service]
    one_sentence(batchmesh(service, "--listen", "10.0.0.1:7070", *options), REFUSED, "--insecure")
    if service != "scheduler":
        done = batchmesh(service, "--listen", "0.0.0.0:0", "--insecure", *options)
        one_sentence(done, REFUSED, "--advertise")
