"""Workers as real processes under a real agent: what the entry script sees, and what its deaths cost."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.v1 import agent_pb2, job_pb2
from tests.support.agent_node import AgentNode, agent_node

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

Failure = job_pb2.Failure
Status = agent_pb2.PoolStatus


def with_node(folder: Path, story: Callable[[AgentNode], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Plays the story on a node of its own."""

    async def play() -> None:
        async with agent_node(folder, **settings) as node:
            await story(node)

    asyncio.run(play())


async def outcome_of(node: AgentNode, script: str, paths: list[str], **spec: Any) -> Any:
    """The outcome of one mini-batch of a one-file source on one worker."""
    stream = await node.open("job", {"score.py": script}, 1, **spec)
    await stream.run(paths)
    outcome = (await stream.outcomes_of(1))[1]
    await stream.finish()
    return outcome


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 a condition of other processes has no event
            await asyncio.sleep(0.01)


def test_a_mini_batch_becomes_a_frame_in_storage_and_an_outcome_that_names_it(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": "def run(paths):\n    return [p.upper() for p in paths]\n"})
        await stream.run(["/a", "/b"], ["/c"])
        outcomes = await stream.outcomes_of(2)
        assert node.frame("job", outcomes[1]).endswith(b"/A\n/B\n")
        assert (outcomes[1].rows, outcomes[1].succeeded, outcomes[1].failed) == (2, 2, 0)
        assert node.frame("job", outcomes[2]).endswith(b"/C\n")
        await stream.finish()
        assert stream.phases[0] == Status.PHASE_PREPARING
        assert stream.phases[-1] == Status.PHASE_READY

    with_node(tmp_path, story)


def test_the_libraries_of_tables_are_there_before_the_first_table_comes(tmp_path: Path) -> None:
    script = "import sys\ndef run(paths):\n    return [' '.join(sorted({'pandas', 'pyarrow'} & set(sys.modules)))]\n"

    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(node, script, ["/a"], input_kind=job_pb2.INPUT_KIND_CSV)
        assert node.frame("job", outcome).endswith(b"pandas pyarrow\n")

    with_node(tmp_path, story)


def test_argv_is_set_when_the_script_is_imported(tmp_path: Path) -> None:
    script = (
        "import argparse, os, sys\n"
        "p = argparse.ArgumentParser()\n"
        "p.add_argument('--output'); p.add_argument('--model'); p.add_argument('--mini_batch_size')\n"
        "known, _ = p.parse_known_args()\n"
        "assert sys.argv[0] == os.path.abspath(__file__), sys.argv\n"
        "def run(paths):\n"
        "    ours = known.output == os.environ['AZUREML_BI_OUTPUT_PATH'] and os.path.isdir(known.output)\n"
        "    return [f'{known.model} {known.mini_batch_size} {ours} {os.environ[\"COLOUR\"]}']\n"
    )

    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(
            node,
            script,
            ["/a"],
            arguments=["--model", "m1"],
            mini_batch_size="7",
            environment_variables={"COLOUR": "red"},
        )
        assert node.frame("job", outcome).endswith(b"m1 7 True red\n")

    with_node(tmp_path, story)


def test_siblings_and_the_source_root_import_whatever_their_names(tmp_path: Path) -> None:
    files = {
        "nested/score.py": (
            "import os, pickle\n"
            "import storage, agent, types_, worker, frames, entry, config, process\n"
            "import sibling\n"
            "class Row:\n"
            "    pass\n"
            "def run(paths):\n"
            "    assert __name__ == 'score' and type(pickle.loads(pickle.dumps(Row()))) is Row\n"
            "    assert open('nested/sibling.py').read() == open(sibling.__file__).read()\n"
            "    open('nested/mine', 'w').close()\n"
            "    assert not os.path.exists(os.path.join(os.path.dirname(__file__), 'mine'))\n"
            "    return [storage.NAME + agent.NAME + types_.NAME + sibling.NAME + worker.NAME]\n"
        ),
        "nested/sibling.py": "NAME = 'sibling'\n",
        **{f"{name}.py": "NAME = 'root '\n" for name in ("storage", "agent", "types_", "worker", "frames")},
        **{f"{name}.py": "NAME = 'root '\n" for name in ("entry", "config", "process")},
    }

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", files, 1, entry_script="nested/score.py")
        await stream.run(["/a"])
        outcome = (await stream.outcomes_of(1))[1]
        assert outcome.failure is None, outcome.failure
        assert node.frame("job", outcome).endswith(b"root root root siblingroot \n")
        await stream.finish()

    with_node(tmp_path, story)


def test_run_gets_a_context_if_it_takes_one(tmp_path: Path) -> None:
    script = "def run(paths, context):\n    return [f'{context.minibatch_index} {context.partition_key_value}']\n"

    async def story(node: AgentNode) -> None:
        assert node.frame("job", await outcome_of(node, script, ["/a"])).endswith(b"1 {}\n")

    with_node(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("raise ValueError('no good')", Failure.KIND_RUN_RAISED, "run() raised ValueError: no good"),
        ("raise SystemExit(42)", Failure.KIND_RUN_RAISED, "run() raised SystemExit: 42"),
        ("raise KeyboardInterrupt", Failure.KIND_RUN_RAISED, "run() raised KeyboardInterrupt"),
        ("return run(paths)", Failure.KIND_RUN_RAISED, "run() raised RecursionError"),
        ("return None", Failure.KIND_BAD_RETURN, "None"),
        ("return 'text'", Failure.KIND_BAD_RETURN, "str"),
        ("import os; os._exit(3)", Failure.KIND_WORKER_CRASHED, "ended with exit status 3 during run()"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            Failure.KIND_WORKER_CRASHED,
            "was killed by signal 9 (SIGKILL) during run()",
        ),
        ("import ctypes; ctypes.string_at(0)", Failure.KIND_WORKER_CRASHED, "was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_what_run_does_wrong_is_a_failure_of_its_mini_batch_alone(
    tmp_path: Path, body: str, kind: int, message: str
) -> None:
    script = f"def run(paths):\n    if paths != ['/bad']:\n        return paths\n    {body}\n"

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.run(*[["/good"]] * 30, ["/bad"], *[["/good"]] * 30)
        outcomes = await stream.outcomes_of(61)
        failed = {number: each.failure for number, each in outcomes.items() if each.failure}
        assert list(failed) == [31]
        assert failed[31] is not None
        assert failed[31].kind == kind
        assert message in failed[31].message
        await stream.finish()

    with_node(tmp_path, story)


def test_the_end_of_a_worker_names_the_item_that_it_ran_alone(tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "def run(paths):\n"
        "    if '/in/crash.txt' in paths: os._exit(3)\n"
        "    if '/in/hang.txt' in paths: time.sleep(600)\n"
        "    return paths\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1, run_invocation_timeout=0.3)
        await stream.run(["/in/crash.txt"], ["/in/hang.txt"], ["/in/good.txt"], ["/in/x", "/in/crash.txt"])
        outcomes = await stream.outcomes_of(4)
        messages = {number: each.failure.message for number, each in outcomes.items() if each.failure}
        assert messages == {
            1: "The worker process ended with exit status 3 during run() of /in/crash.txt.",
            2: "run() of /in/hang.txt did not return within run_invocation_timeout (0.3 seconds).",
            4: "The worker process ended with exit status 3 during run().",
        }
        await stream.finish()

    with_node(tmp_path, story)


def test_a_run_that_fails_for_files_that_are_gone_names_them(tmp_path: Path) -> None:
    here, gone = tmp_path / "here", tmp_path / "gone"
    here.write_text("text")
    script = "def run(paths):\n    return [open(path).read() for path in paths]\n"

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.run([str(here), str(gone)], [str(gone), "/b", "/c"], [str(here), "/proc/self/mem"])
        outcomes = await stream.outcomes_of(3)
        messages = [each.failure.message for _, each in sorted(outcomes.items()) if each.failure]
        assert messages[0].endswith(f"({gone} is not there any more)")
        assert messages[1].endswith(f"({gone} and 2 more of its files are not there any more)")
        assert "any more" not in messages[2]
        await stream.finish()

    with_node(tmp_path, story)


def test_a_script_that_closes_every_descriptor_costs_its_worker_and_nothing_else(tmp_path: Path) -> None:
    script = "import os\ndef run(paths):\n    if paths == ['/bad']: os.closerange(0, 4096)\n    return paths\n"

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.run(["/bad"], *[["/good"]] * 30)
        outcomes = await stream.outcomes_of(31)
        assert [number for number, each in outcomes.items() if each.failure] == [1]
        assert outcomes[1].failure is not None
        assert outcomes[1].failure.kind == Failure.KIND_WORKER_CRASHED
        await stream.finish()

    with_node(tmp_path, story)


def test_a_traceback_begins_with_the_users_own_frame(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(node, "def run(paths):\n    return 1 / 0\n", ["/a"])
        first, where = outcome.failure.traceback.splitlines()[:2]
        assert first == "Traceback (most recent call last):"
        assert where.endswith('score.py", line 2, in run')
        assert outcome.run_us > 0

    with_node(tmp_path, story)


def test_a_short_return_is_counted_and_named_in_its_frame(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(node, "def run(paths):\n    return paths[:1]\n", ["/a", "/b", "/c"])
        assert (outcome.succeeded, outcome.failed, outcome.rows) == (1, 2, 1)
        frame = node.frame("job", outcome)
        assert b'"kind":"SHORT_RETURN"' in frame
        assert b'"count":2' in frame
        assert b'"item":null' in frame

    with_node(tmp_path, story)


def test_a_run_that_blocks_in_c_and_ignores_sigterm_is_killed_at_the_limit_with_its_children(tmp_path: Path) -> None:
    script = (
        "import os, signal, subprocess, time\n"
        "def run(paths):\n"
        "    if paths == ['/good']: return paths\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        f"    open('{tmp_path}/pids', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "    time.sleep(600)\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1, run_invocation_timeout=0.3)
        await stream.run(["/bad"], ["/good"])
        outcomes = await stream.outcomes_of(2)
        assert outcomes[1].failure is not None
        assert outcomes[1].failure.kind == Failure.KIND_RUN_TIMEOUT
        assert "0.3 seconds" in outcomes[1].failure.message
        assert outcomes[1].run_us >= 300_000
        assert outcomes[2].failure is None
        pids = [int(each) for each in (tmp_path / "pids").read_text().split()]
        await until(lambda: not any(alive(pid) for pid in pids))
        await stream.finish()

    with_node(tmp_path, story)


def test_a_result_beyond_the_limit_is_a_bad_result(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(node, "def run(paths):\n    return ['x' * 200_000]\n", ["/a"])
        assert outcome.failure.kind == Failure.KIND_BAD_RESULT
        assert "200,001 bytes" in outcome.failure.message

    with_node(tmp_path, story, max_result_bytes=100_000)


def test_large_results_go_to_storage_in_pieces(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": "def run(paths):\n    return [paths[0] * 5_000_000]\n"})
        await stream.run(["ab"], ["cd"], ["ef"])
        outcomes = await stream.outcomes_of(3)
        assert node.frame("job", outcomes[2]).endswith(b"cd" * 5_000_000 + b"\n")
        await stream.finish()
        assert node.node.budget.used == 0

    with_node(tmp_path, story, unacknowledged_bytes=1_000_000)


def test_init_that_fails_three_times_in_a_row_fails_the_pool_with_the_users_traceback(tmp_path: Path) -> None:
    script = (
        "def init():\n"
        f"    open('{tmp_path}/inits', 'a').write('x')\n"
        "    raise OSError('no model')\n"
        "def run(p): return p\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.until(lambda stream: stream.status.phase == Status.PHASE_FAILED)
        failure = stream.status.failure
        assert failure.kind == Failure.KIND_INIT_FAILED
        assert failure.message == "init() raised OSError: no model"
        assert "in init" in failure.traceback.splitlines()[1]
        assert (tmp_path / "inits").read_text() == "xxx"
        await stream.finish()
        assert "no model" in node.storage.log("job", "stderr")

    with_node(tmp_path, story)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("def run(:\n", "score.py cannot be loaded: it raised SyntaxError"),
        ("import nothing_of_that_name\n", "score.py cannot be loaded: it raised ModuleNotFoundError"),
        ("def walk(paths): return paths\n", "score.py has no run()"),
        ("def init(): raise SystemExit(7)\ndef run(p): return p\n", "init() raised SystemExit: 7"),
        ("import os\ndef init(): os._exit(9)\ndef run(p): return p\n", "ended with exit status 9 during init()"),
    ],
)
def test_a_script_that_cannot_begin_fails_the_pool(tmp_path: Path, script: str, message: str) -> None:
    check_fails_its_pool(tmp_path, script, message, init_timeout=60.0)


def test_an_init_that_does_not_return_fails_the_pool(tmp_path: Path) -> None:
    script = "import time\ndef init(): time.sleep(600)\ndef run(p): return p\n"
    check_fails_its_pool(tmp_path, script, "init() did not return within 0.5 seconds", init_timeout=0.5)


def check_fails_its_pool(tmp_path: Path, script: str, message: str, init_timeout: float) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.until(lambda stream: stream.status.phase == Status.PHASE_FAILED)
        assert stream.status.failure.kind == Failure.KIND_INIT_FAILED
        assert message in stream.status.failure.message
        await stream.finish()

    with_node(tmp_path, story, init_timeout=init_timeout)


def test_a_worker_that_dies_before_its_first_mini_batch_again_and_again_fails_the_pool(tmp_path: Path) -> None:
    script = "import os, threading\ndef init(): threading.Timer(0.05, os._exit, [4]).start()\ndef run(p): return p\n"

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.until(lambda stream: stream.status.phase == Status.PHASE_FAILED)
        assert "exit status 4 before its first mini-batch" in stream.status.failure.message
        await stream.finish()

    with_node(tmp_path, story)


def test_the_next_job_of_the_same_script_finds_init_already_done(tmp_path: Path) -> None:
    script = (
        "import os\n"
        f"def init(): open('{tmp_path}/inits', 'a').write('x')\n"
        "def run(paths): return [os.environ['AZUREML_RUN_ID'] + ' ' + str(os.getpid())]\n"
    )

    async def story(node: AgentNode) -> None:
        pids = set()
        for job_id in ("one", "two"):
            stream = await node.open(job_id, {"score.py": script}, 1)
            await stream.run(["/a"])
            frame = node.frame(job_id, (await stream.outcomes_of(1))[1])
            name, pid = frame.rsplit(b"\x00", 1)[1].split()
            assert name.endswith(job_id.encode())
            pids.add(pid)
            await stream.finish()
        assert (tmp_path / "inits").read_text() == "x"
        assert len(pids) == 1
        assert node.storage.reads == 1

    with_node(tmp_path, story)


def test_a_summary_only_job_writes_to_its_own_folder_and_ends_with_shutdown(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / ".batchmesh-job-marker").write_text("job")
    script = (
        "import os, sys\n"
        "def run(paths): return paths\n"
        "def shutdown(): open(os.path.join(sys.argv[2], 'closed'), 'w').write('done')\n"
    )

    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(
            node, script, ["/a", "/b"], output=str(output), output_action=job_pb2.OUTPUT_ACTION_SUMMARY_ONLY
        )
        assert (outcome.succeeded, outcome.rows) == (2, 0)
        assert (output / "closed").read_text() == "done"
        assert node.node.pools.workers == 0

    with_node(tmp_path, story)


def test_megabytes_of_prints_are_kept_up_to_the_limit_and_hurt_nothing(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "def run(paths):\n"
        "    print('y' * 3_000_000); os.write(2, b'to stderr\\n')\n"
        "    os.chdir('/'); sys.stdout = None\n"
        "    return paths\n"
    )

    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(node, script, ["/a"])
        assert outcome.failure is None
        log = node.storage.log("job", "stdout")
        assert 100_000 < len(log) < 101_000
        assert "the rest was dropped" in log
        assert "to stderr" in node.storage.log("job", "stderr")

    with_node(tmp_path, story, log_bytes=100_000)


def test_workers_die_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    """The agent here is a process of its own that can be killed; its worker loads a source from the cache folder."""
    program = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from batchmesh.agent import zipapp\n"
        "from batchmesh.agent.process import WorkerProcess\n"
        "worker = zipapp.make(sys.argv[1] + '-worker')\n"
        "process = WorkerProcess((sys.executable, worker), dict(os.environ), Path(sys.argv[1]))\n"
        "print(process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )

    async def story() -> None:
        import sys

        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(tmp_path / "folder"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert agent.stdout is not None
        pid = int(await agent.stdout.readline())
        assert alive(pid)
        agent.send_signal(signal.SIGKILL)
        await agent.wait()
        await until(lambda: not alive(pid))

    asyncio.run(story())


def test_variables_that_no_process_can_have_fail_their_pool_alone(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        files = {"score.py": "def run(paths):\n    return paths\n"}
        stream = await node.open("job", files, environment_variables={"NAME": "a\0b"})
        await stream.until(lambda stream: stream.status.phase == Status.PHASE_FAILED)
        assert stream.status.failure.kind == Failure.KIND_ENVIRONMENT
        assert "null byte" in stream.status.failure.message
        await stream.finish()
        other = await node.open("other", files)
        await other.run(["/a"])
        assert (await other.outcomes_of(1))[1].succeeded == 1
        await other.finish()

    with_node(tmp_path, story)
