"""Workers that use too much memory, as real processes under a real agent: whose failure it is, and what it costs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from batchmesh.agent.process_table import process
from batchmesh.v1 import agent_pb2, job_pb2

from .test_worker_process import until, with_node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.agent_node import AgentNode

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is weighed by /proc")

Failure = job_pb2.Failure
MB = 2**20
#: A worker of these scripts takes some 20 MB by itself.
LIMIT = 150 * MB


def test_an_item_that_eats_memory_fails_by_name_and_the_others_of_its_worker_do_not(tmp_path: Path) -> None:
    script = (
        "def run(paths):\n"
        "    held = []\n"
        "    while paths == ['/in/poison']: held.append(bytes([1]) * 1_000_000)\n"
        "    return paths\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.run(*[["/in/good"]] * 20, ["/in/poison"], *[["/in/good"]] * 20)
        outcomes = await stream.outcomes_of(41)
        failed = {number: each.failure for number, each in outcomes.items() if each.failure}
        assert list(failed) == [21]
        assert failed[21].kind == Failure.KIND_OUT_OF_MEMORY
        assert "more than their limit of 150 MB (--worker-memory), during run() of /in/poison;" in failed[21].message
        await stream.finish()

    with_node(tmp_path, story, worker_memory=LIMIT)


def test_what_a_script_has_started_is_weighed_with_it(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "code = 'import time; held = bytes([1]) * 300_000_000; time.sleep(600)'\n"
        "def run(paths):\n"
        f"    child = subprocess.Popen([sys.executable, '-c', code])\n"
        f"    open('{tmp_path}/child', 'w').write(str(child.pid))\n"
        "    child.wait()\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.run(["/a", "/b"])
        failure = (await stream.outcomes_of(1))[1].failure
        assert failure is not None
        assert failure.kind == Failure.KIND_OUT_OF_MEMORY
        assert ", during run();" in failure.message
        child = int((tmp_path / "child").read_text())
        await until(lambda: (found := process(child)) is None or found.is_zombie)
        await stream.finish()

    with_node(tmp_path, story, worker_memory=LIMIT)


@pytest.mark.parametrize("body", ["grow(); time.sleep(600)", "threading.Timer(0.3, grow).start()"])
def test_an_init_that_takes_too_much_fails_the_pool_also_when_it_is_seen_late(tmp_path: Path, body: str) -> None:
    script = (
        "import threading, time\n"
        "def grow():\n"
        "    global held\n"
        "    held = bytes([1]) * 300_000_000\n"
        f"def init(): {body}\n"
        "def run(paths): return paths\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.until(lambda stream: stream.status.phase == agent_pb2.PoolStatus.PHASE_FAILED)
        failure = stream.status.failure
        assert failure.kind == Failure.KIND_INIT_FAILED
        assert "more than their limit of 150 MB (--worker-memory)" in failure.message
        assert "during init()" in failure.message or "before its first mini-batch" in failure.message
        await stream.finish()

    with_node(tmp_path, story, worker_memory=LIMIT)


def test_what_grows_between_two_mini_batches_costs_the_worker_and_no_mini_batch(tmp_path: Path) -> None:
    script = (
        "import os, threading\n"
        "def grow():\n"
        "    global held\n"
        "    held = bytes([1]) * 300_000_000\n"
        "def run(paths):\n"
        "    if paths == ['/grow']: threading.Timer(0.05, grow).start()\n"
        "    return [str(os.getpid())]\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.run(["/grow"])
        first = (await stream.outcomes_of(1))[1]
        assert first.failure is None
        pid = int(node.frame("job", first).split(b"\0")[-1])
        await until(lambda: (found := process(pid)) is None or found.is_zombie)
        await stream.run(["/other"], first=2)
        second = (await stream.outcomes_of(2))[2]
        assert second.failure is None
        assert int(node.frame("job", second).split(b"\0")[-1]) != pid
        await stream.finish()

    with_node(tmp_path, story, worker_memory=LIMIT)


def test_when_all_together_take_more_than_the_node_has_the_largest_goes(tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "def run(paths):\n"
        "    held = bytes([1]) * int(paths[0])\n"
        f"    while not os.path.exists('{tmp_path}/go'): time.sleep(0.01)\n"
        "    return paths\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 2)
        await stream.run(["100000000"], ["300000000"])
        failure = (await stream.outcomes_of(1))[2].failure
        assert failure is not None
        assert failure.kind == Failure.KIND_OUT_OF_MEMORY
        assert "more than the 350 MB that it has for them" in failure.message
        assert "during run() of 300000000" in failure.message
        (tmp_path / "go").touch()
        assert (await stream.outcomes_of(2))[1].failure is None
        await stream.finish()

    with_node(tmp_path, story, node_memory=350 * MB)


def test_a_worker_that_somebody_else_kills_did_not_run_out_of_memory(tmp_path: Path) -> None:
    script = "import os\ndef run(paths): os.kill(os.getpid(), 9)\n"

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.run(["/a"])
        failure = (await stream.outcomes_of(1))[1].failure
        assert failure is not None
        assert failure.kind == Failure.KIND_WORKER_CRASHED
        assert failure.message == "The worker process was killed by signal 9 (SIGKILL) during run() of /a."
        await stream.finish()

    with_node(tmp_path, story, worker_memory=LIMIT)
