"""A control group whose memory runs out faster than it is weighed: the kernel ends the worker, and we say so."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batchmesh.v1 import job_pb2
from tests.integration.test_worker_process import with_node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.agent_node import AgentNode

MB = 2**20
#: Where the memory controller is, and the name of its limit: of version 1 and of version 2.
ROOTS = [(Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")]


@pytest.fixture
def small_group() -> Iterator[None]:
    """This process, and what it starts, in a control group of 300 MB; what it has already does not count."""
    for root, limit in ROOTS:
        group = root / f"batchmesh-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            if (group / limit).exists():
                break
            group.rmdir()
    else:
        pytest.skip("no control group for memory can be made here; run as root")
    (group / limit).write_text(str(300 * MB))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (root / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


@pytest.mark.usefixtures("small_group")
def test_the_kernel_ends_the_worker_and_not_the_agent_and_the_failure_tells_the_likely_cause(tmp_path: Path) -> None:
    script = "def run(paths):\n    held = bytes([1]) * (10**9 if paths == ['/bad'] else 1)\n    return paths\n"

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script}, 1)
        await stream.run(["/a"], ["/bad"], ["/b"])
        outcomes = await stream.outcomes_of(3)
        failed = {number: each.failure for number, each in outcomes.items() if each.failure}
        assert list(failed) == [2]
        assert failed[2].kind == job_pb2.Failure.KIND_WORKER_CRASHED
        assert "(SIGKILL) during run() of /bad. The kernel has just ended a process here for lack" in failed[2].message
        await stream.finish()

    with_node(tmp_path, story, node_memory=10**12)
