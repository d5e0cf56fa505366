"""Entry scripts that do what scripts do to their process: none of it reaches the agent, and no word of it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.client import Client
from tests.support.story import (
    adds_up,
    failed,
    final,
    lines,
    run_job,
    succeeded,
    until,
    write_files,
    write_script,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mesh import Mesh

NAMES = "return [os.path.basename(path) for path in mini_batch]"

BEFORE_INIT = {
    "moves away": "os.chdir('/')",
    "ignores every signal": (
        "for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    try:\n"
        "        signal.signal(each, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n"
        "        pass"
    ),
    "has no streams": "sys.stdout = sys.stderr = None",
    "starts a thread that never ends": "threading.Thread(target=threading.Event().wait).start()",
    "starts a daemon": "subprocess.Popen(['sleep', '3'], start_new_session=True)",
    "prints a lot without a newline": "print('x' * 5_000_000, end='')",
    "prints what is no text": "sys.stdout.buffer.write(bytes(range(256)) * 1000); print('\\udce9')",
}


@pytest.mark.parametrize("does", BEFORE_INIT)
def test_what_a_script_does_to_its_process_is_its_own_affair(mesh: Mesh, tmp_path: Path, does: str) -> None:
    paths = write_files(tmp_path / "in", 12, str)
    imports = "import os, signal, subprocess, sys, threading\n"
    script = write_script(tmp_path, f"{imports}{BEFORE_INIT[does]}\ndef run(mini_batch):\n    {NAMES}\n")
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", mini_batch_size=3))
    assert lines(job) == [path.name for path in paths]


def test_a_script_may_close_the_descriptors_that_it_knows(mesh: Mesh, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 12, str)
    script = write_script(tmp_path, f"import os\ndef run(mini_batch):\n    os.closerange(0, 50)\n    {NAMES}\n")
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", mini_batch_size=3))
    assert lines(job) == [path.name for path in paths]
    assert job.progress.retried_attempts == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_script_may_have_processes_of_its_own(mesh: Mesh, tmp_path: Path, method: str) -> None:
    paths = write_files(tmp_path / "in", 12, str)
    script = write_script(
        tmp_path,
        f"""
        import multiprocessing, os

        def name(path):
            return os.path.basename(path)

        def run(mini_batch):
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                return pool.map(name, mini_batch)
        """,
    )
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", mini_batch_size=6))
    assert lines(job) == [path.name for path in paths]


def child_that(ends: str, status: int) -> str:
    """The body of a run() that forks a child, which ends so, and sees the status that Python gives such an end."""
    wait = f"assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == {status}"
    return f"child = os.fork()\n    if not child: {ends}\n    {wait}"


FORKS = {
    "comes back from run()": ("", "os.fork()"),
    "exits in run()": ("", child_that("sys.exit(7)", 7)),
    "raises in run()": ("", child_that("raise ValueError", 1)),
    "comes back from init()": ("def init(): os.fork()", ""),
    "comes back from the import": ("os.fork()", ""),
}


@pytest.mark.parametrize("where", FORKS)
def test_a_copy_of_the_worker_that_the_script_forked_answers_for_nobody(mesh: Mesh, tmp_path: Path, where: str) -> None:
    paths = write_files(tmp_path / "in", 20, str)
    before, inside = FORKS[where]
    script = write_script(tmp_path, f"import os, sys\n{before}\ndef run(mini_batch):\n    {inside}\n    {NAMES}\n")
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", patience=25, mini_batch_size=2))
    assert lines(job) == [path.name for path in paths]
    assert job.progress.retried_attempts == 0


@pytest.mark.parametrize("where", ["init", "run"])
def test_an_error_that_names_a_file_whose_name_is_no_text_is_told(mesh: Mesh, tmp_path: Path, where: str) -> None:
    write_files(tmp_path / "in", 2, str)
    script = write_script(
        tmp_path,
        f"""
        import os

        def {where}(*_):
            raise ValueError("cannot read " + os.fsdecode(b"caf\\xe9.txt"))
        """
        + ("\n        def run(mini_batch):\n            return mini_batch\n" if where == "init" else ""),
    )
    job = failed(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", patience=25, run_max_try=1))
    assert job.error is not None
    assert "ValueError: cannot read caf\\udce9.txt" in job.error.message


NO_WAY_OUT = {
    "closed its streams": "sys.stdout.close(); sys.stderr.close()",
    "has a log handler that raises": "logging.getLogger().addHandler(Broken())",
}


@pytest.mark.parametrize("what", NO_WAY_OUT)
def test_the_error_of_a_script_that_left_no_way_to_print_is_still_its_own(
    mesh: Mesh, tmp_path: Path, what: str
) -> None:
    write_files(tmp_path / "in", 2, str)
    script = write_script(
        tmp_path,
        f"""
        import logging, sys

        class Broken(logging.Handler):
            def emit(self, record):
                raise RuntimeError("no")

        def run(mini_batch):
            {NO_WAY_OUT[what]}
            raise ValueError("the cause")
        """,
    )
    job = failed(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", run_max_try=1))
    assert job.error is not None
    assert "ValueError: the cause" in job.error.message


def test_a_worker_that_replaces_a_dead_one_finds_nothing_of_it_in_its_folder(mesh: Mesh, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 6, str)
    script = write_script(
        tmp_path,
        f"""
        import os

        def init():
            assert os.listdir() == ["script.py"]
            os.mkdir("cache")

        def run(mini_batch):
            if not os.path.exists(os.environ["MARK"]):
                open(os.environ["MARK"], "w").close()
                os._exit(1)
            {NAMES}
        """,
    )
    variables = {"MARK": str(tmp_path / "mark")}
    job = succeeded(
        run_job(
            mesh.address,
            script,
            tmp_path / "in",
            tmp_path / "out",
            process_count_per_node=1,
            environment_variables=variables,
        )
    )
    assert lines(job) == [path.name for path in paths]


def test_what_threads_still_write_is_there_when_a_summary_only_job_has_succeeded(mesh: Mesh, tmp_path: Path) -> None:
    """Longer than the grace of a worker that was not asked to end."""
    paths = write_files(tmp_path / "in", 4, str)
    script = write_script(
        tmp_path,
        """
        import os, threading, time

        def write(path):
            time.sleep(1.5)
            open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], os.path.basename(path)), "w").close()

        def run(mini_batch):
            for path in mini_batch:
                threading.Thread(target=write, args=(path,)).start()
            return mini_batch
        """,
    )
    succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", output_action="summary_only"))
    assert all((tmp_path / "out" / path.name).exists() for path in paths)


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)", "raise ValueError"])
def test_an_end_amid_many_short_runs_costs_one_try_of_the_one_that_ran(mesh: Mesh, tmp_path: Path, end: str) -> None:
    paths = write_files(tmp_path / "in", 600, str)
    script = write_script(
        tmp_path,
        f"""
        import os

        def run(mini_batch):
            if "item-00400" in mini_batch[0] and not os.path.exists(os.environ["MARK"]):
                open(os.environ["MARK"], "w").close()
                {end}
            {NAMES}
        """,
    )
    variables = {"MARK": str(tmp_path / "mark")}
    settings: dict[str, Any] = {"mini_batch_size": 1, "environment_variables": variables}
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", **settings))
    assert lines(job) == [path.name for path in paths]
    assert job.progress.retried_attempts == 1
    adds_up(job)


def test_results_are_told_while_a_long_run_follows_them(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 501, str)
    script = write_script(
        tmp_path,
        f"""
        import os, time

        def run(mini_batch):
            while "item-00500" in mini_batch[0] and not os.path.exists(os.environ["GO"]):
                time.sleep(0.01)
            {NAMES}
        """,
    )
    variables = {"GO": str(tmp_path / "go")}
    settings: dict[str, Any] = {
        "mini_batch_size": 1,
        "process_count_per_node": 1,
        "environment_variables": variables,
    }
    with Client(mesh.address) as client:
        job = client.submit(script, [str(tmp_path / "in")], tmp_path / "out", attended=True, **settings)
        until(client, job.job_id, lambda job: job.progress.succeeded_items == 500, patience=30)
        (tmp_path / "go").touch()
        assert len(lines(succeeded(final(client, job.job_id)))) == 501
