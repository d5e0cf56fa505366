"""Workers in a Python that is not the agent's: environments that real installers really make, without a network."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.v1 import agent_pb2, job_pb2
from tests.support.agent_node import AgentNode, Stream, until, with_node
from tests.support.wheels import write_wheel

from .test_predecessor import agents_in

if TYPE_CHECKING:
    from collections.abc import Mapping

Failure = job_pb2.Failure
Status = agent_pb2.PoolStatus
WHERE_IT_RUNS = """
import os, shutil, subprocess, sys
def run(paths):
    import tinypack
    for absent in ("pandas", "grpc", "structlog"):
        try:
            __import__(absent)
        except ImportError:
            continue
        raise AssertionError(absent + " is there")
    assert "PYTHONPATH" not in os.environ and not any(each.endswith(".pyz") for each in sys.path)
    assert shutil.which("python") == sys.executable and sys.prefix == os.environ["VIRTUAL_ENV"]
    child = [sys.executable, "-c", "import tinypack; print(tinypack.NAME)"]
    said = subprocess.run(child, capture_output=True, text=True, check=True).stdout.strip()
    return [tinypack.NAME + sys.prefix + " " + said]
"""
ECHO = "def run(paths):\n    import sys\n    return [sys.executable]\n"
#: An interpreter that says when it is to make an environment, and makes it once it may.
SLOW = """#!/bin/sh
case "$*" in *" venv "*)
  echo begun >> {folder}/begun
  sleep 300 & echo $! >> {folder}/pids
  while [ ! -e {folder}/go ]; do sleep 0.02; done
  kill $!;;
esac
exec {python} "$@"
"""


def environment(*requirements: str, **more: Any) -> job_pb2.Environment:
    return job_pb2.Environment(name="mine", requirements=requirements, **more)


def slow_python(folder: Path) -> Path:
    path = folder / "slow-python"
    path.write_text(SLOW.format(folder=folder, python=sys.executable))
    path.chmod(0o755)
    return path


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()] if (folder / "pids").exists() else []


async def answer(node: AgentNode, job_id: str, script: str, **spec: Any) -> list[str]:
    """The rows that the script gives for one mini-batch."""
    stream = await node.open(job_id, {"score.py": script}, 1, **spec)
    await stream.run(["/a"])
    outcome = (await stream.outcomes_of(1))[1]
    await stream.finish()
    assert outcome.failure is None, outcome.failure
    return node.frame(job_id, outcome).rpartition(b"\0")[2].decode().split()


async def refusal(stream: Stream) -> str:
    """Why the node cannot serve the job, which is no fault of a mini-batch."""
    await stream.until(lambda stream: stream.status.phase == Status.PHASE_FAILED)
    assert stream.status.failure.kind == Failure.KIND_ENVIRONMENT
    await stream.finish()
    return stream.status.failure.message


UV = shutil.which("uv") or shutil.which("uv", path=os.path.dirname(sys.executable))


@pytest.fixture(autouse=True)
def installer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Makes sure that pip makes the environments, or uv where the test asks for it; neither has a network."""
    elsewhere = [each for each in os.environ["PATH"].split(os.pathsep) if not (Path(each) / "uv").exists()]
    if getattr(request, "param", "pip") == "uv":
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "uv").symlink_to(str(UV))
        elsewhere.insert(0, str(tmp_path / "bin"))
    monkeypatch.setenv("PATH", os.pathsep.join(elsewhere))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


with_uv = pytest.param("uv", marks=pytest.mark.skipif(UV is None, reason="uv is not installed"))


@pytest.mark.parametrize("installer", ["pip", with_uv], indirect=True)
def test_a_script_runs_in_an_environment_that_holds_its_requirements_and_nothing_of_ours(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "tinypack", "NAME = 'tiny'\n")

    async def story(node: AgentNode) -> None:
        wanted = environment(str(wheel))
        made, child = await answer(node, "one", WHERE_IT_RUNS, environment=wanted)
        assert made.startswith(f"tiny{tmp_path}/work/environments/")
        assert child == "tiny"
        again, _ = await answer(node, "two", WHERE_IT_RUNS + "\n", environment=wanted)
        assert again == made
        assert await answer(node, "three", ECHO) == [sys.executable]
        assert len(list((tmp_path / "work" / "environments").iterdir())) == 1

    with_node(tmp_path, story)


@pytest.mark.parametrize("installer", [with_uv], indirect=True)  # with pip: tests/e2e/test_environments.py
def test_what_cannot_be_installed_fails_the_node_with_the_installers_last_lines(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": ECHO}, 1, environment=environment("nobody-has-this==7"))
        sentence = await refusal(stream)
        assert sentence.startswith("The environment 'mine' cannot be made: ")
        assert "ended with exit status 1 and said last:\n" in sentence
        assert "nobody-has-this==7" in sentence.partition("said last:")[2]
        assert len(sentence) < 2_200
        assert not [each for each in (tmp_path / "work" / "environments").iterdir() if each.name[0] != "."]

    with_node(tmp_path, story)


def test_two_jobs_wait_for_one_environment_and_it_is_there_for_the_next_agent(tmp_path: Path) -> None:
    wanted = environment(interpreter_path=str(slow_python(tmp_path)))

    async def two(node: AgentNode) -> None:
        streams = [await node.open(name, {"score.py": ECHO + f"#{name}"}, 1, environment=wanted) for name in "ab"]
        await until((tmp_path / "begun").exists)
        (tmp_path / "go").touch()
        for stream in streams:
            await stream.run(["/a"])
            assert (await stream.outcomes_of(1))[1].failure is None
            await stream.finish()

    async def later(node: AgentNode) -> None:
        assert await answer(node, "c", ECHO, environment=wanted)

    with_node(tmp_path, two)
    with_node(tmp_path, later)
    assert (tmp_path / "begun").read_text() == "begun\n"


def test_an_environment_that_only_a_cancelled_job_waits_for_is_given_up(tmp_path: Path) -> None:
    wanted = environment(interpreter_path=str(slow_python(tmp_path)))

    async def story(node: AgentNode) -> None:
        stream = await node.open("one", {"score.py": ECHO}, 1, environment=wanted)
        await until(lambda: pids(tmp_path))
        await stream.abort_all()
        await until(lambda: not any(map(alive, pids(tmp_path))))
        (tmp_path / "go").touch()
        assert await answer(node, "two", ECHO, environment=wanted)

    with_node(tmp_path, story)
    assert (tmp_path / "begun").read_text() == "begun\n" * 2


def test_an_agent_that_is_killed_leaves_no_installer_to_the_next_which_begins_anew(tmp_path: Path) -> None:
    wanted = environment(interpreter_path=str(slow_python(tmp_path)))

    async def story() -> None:
        async with agents_in(tmp_path) as agents:
            async with agents.life() as (process, node):
                await node.open("one", {"score.py": ECHO}, 1, environment=wanted)
                await until(lambda: pids(tmp_path))
                process.kill()
                process.wait(20)
            (tmp_path / "go").touch()
            async with agents.life() as (_, node):
                assert not any(map(alive, pids(tmp_path)))
                assert await answer(node, "two", ECHO, environment=wanted)

    asyncio.run(story())
    assert (tmp_path / "begun").read_text() == "begun\n" * 2


def test_an_environment_that_takes_too_long_fails_the_node(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        wanted = environment(interpreter_path=str(slow_python(tmp_path)))
        stream = await node.open("job", {"score.py": ECHO}, 1, environment=wanted)
        assert "took longer than 0.3 seconds (--environment-timeout)" in await refusal(stream)
        await until(lambda: not any(map(alive, pids(tmp_path))))

    with_node(tmp_path, story, environment_timeout=0.3)


def test_environments_over_the_limit_go_unless_they_are_in_use(tmp_path: Path) -> None:
    def wanted(name: str) -> job_pb2.Environment:
        (tmp_path / name).mkdir()
        (tmp_path / name / "go").touch()
        return environment(interpreter_path=str(slow_python(tmp_path / name)))

    def kept() -> list[str]:
        return [each.name for each in (tmp_path / "work" / "environments").iterdir() if each.name[0] != "."]

    async def story(node: AgentNode) -> None:
        first = await node.open("one", {"score.py": ECHO}, 1, environment=wanted("a"))
        await first.until(lambda stream: stream.status.phase == Status.PHASE_READY)
        [used] = kept()
        stream = await node.open(
            "two", {"score.py": ECHO}, 1, environment=wanted("b"), output_action=2, output=f"{tmp_path}/o"
        )
        await stream.run(["/a"])
        assert (await stream.outcomes_of(1))[1].failure is None
        await stream.finish()
        await until(lambda: kept() == [used])
        await first.finish()

    with_node(tmp_path, story, environment_bytes=1)


def test_an_interpreter_of_the_users_is_used_as_it_is(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", tmp_path / "theirs"], check=True)
    python = str(tmp_path / "theirs" / "bin" / "python")

    async def story(node: AgentNode) -> None:
        wanted = environment(user_managed=True, interpreter_path=python)
        assert await answer(node, "job", ECHO, environment=wanted) == [python]
        assert await answer(node, "own", ECHO, environment=environment(user_managed=True)) == [sys.executable]
        assert not list((tmp_path / "work" / "environments").iterdir())

    with_node(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (None, "cannot be started: No such file or directory."),
        ("#!/bin/sh\necho Python 2.7\n", "is no CPython of version 3.9 or later; name another interpreter."),
    ],
)
def test_an_interpreter_that_cannot_run_workers_is_refused_in_one_sentence(
    tmp_path: Path, body: str | None, sentence: str
) -> None:
    python = tmp_path / "python"
    if body:
        python.write_text(body)
        python.chmod(0o755)

    async def story(node: AgentNode) -> None:
        for managed in (True, False):
            wanted = environment(user_managed=managed, interpreter_path=str(python))
            stream = await node.open(f"job-{managed}", {"score.py": ECHO}, 1, environment=wanted)
            said = await refusal(stream)
            assert said.startswith("The environment 'mine' cannot be used: ")
            assert said.endswith(f"{python} {sentence}")

    with_node(tmp_path, story)


@pytest.mark.parametrize(
    "spec",
    [
        {"input_kind": job_pb2.INPUT_KIND_JSONL},
        {"append_row_file_name": "it.CSV"},
        {"append_row_file_name": "a.parquet"},
    ],
)
def test_tables_without_pandas_and_pyarrow_fail_the_node_before_any_mini_batch(
    tmp_path: Path, spec: Mapping[str, Any]
) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": ECHO}, 1, environment=environment(), **spec)
        assert "has no pandas and no pyarrow, which table input and .csv" in await refusal(stream)

    with_node(tmp_path, story)


def test_libraries_that_cannot_be_imported_fail_what_needs_them_in_one_sentence(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", tmp_path / "theirs"], check=True)
    [packages] = (tmp_path / "theirs").glob("lib/*/site-packages")
    for name in ("pandas", "pyarrow"):
        (packages / f"{name}.py").write_text("raise ImportError('it was built for another Python')\n")
    wanted = environment(user_managed=True, interpreter_path=str(tmp_path / "theirs" / "bin" / "python"))

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": ECHO}, 1, environment=wanted, append_row_file_name="a.csv")
        await stream.run(["/a"])
        failure = (await stream.outcomes_of(1))[1].failure
        assert failure is not None
        assert failure.kind == Failure.KIND_BAD_RESULT
        assert failure.message.startswith(
            "Writing the result of run() raised ImportError: it was built for another Python"
        )
        await stream.finish()

    with_node(tmp_path, story)


def test_a_script_has_the_batchmesh_of_its_own_environment_and_none_where_there_is_none(tmp_path: Path) -> None:
    script = """
def run(paths):
    try:
        from batchmesh.client import Client
    except ModuleNotFoundError as error:
        return [error.name]
    return [Client.__name__]
"""
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", tmp_path / "theirs"], check=True)
    theirs = environment(user_managed=True, interpreter_path=str(tmp_path / "theirs" / "bin" / "python"))

    async def story(node: AgentNode) -> None:
        assert await answer(node, "own", script) == ["Client"]
        assert await answer(node, "job", script, environment=theirs) == ["batchmesh.client"]

    with_node(tmp_path, story)


OLD_AND_NEW = """
import json, multiprocessing, sys
from azureml.core import Run
def square(number):
    return number * number
def run(paths):
    Run.get_context().log("runs", 1)
    if paths == ["/bad"]:
        raise ValueError("no good")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return [json.dumps([sys.version_info[:2], pool.map(square, [7])])]
def shutdown():
    print("closed")
"""


@pytest.mark.parametrize("minor", range(9, 16))
def test_workers_run_in_each_python_from_3_9_on_and_tracebacks_begin_with_the_users_code(
    tmp_path: Path, minor: int
) -> None:
    python = shutil.which(f"python3.{minor}")
    if python is None or subprocess.run([python, "-V"], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no Python 3.{minor}")

    async def story(node: AgentNode) -> None:
        wanted = environment(user_managed=True, interpreter_path=python)
        stream = await node.open(
            "job", {"score.py": OLD_AND_NEW}, 1, environment=wanted, append_row_file_name="a.jsonl"
        )
        await stream.run(["/a"], ["/bad"])
        outcomes = await stream.outcomes_of(2)
        assert outcomes[1].failure is None, outcomes[1].failure
        assert json.dumps([[3, minor], [49]]).encode() in node.frame("job", outcomes[1])
        failure = outcomes[2].failure
        assert failure is not None
        assert failure.message.startswith("run() raised ValueError: no good")
        first = failure.traceback.splitlines()[1]
        assert first.endswith(", in run")
        assert first.startswith('  File "')
        assert "score.py" in first
        await stream.finish()

    with_node(tmp_path, story)
