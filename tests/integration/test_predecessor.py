"""An agent that is killed, and the next one in its work folder: what is left of the first ends, and nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from batchmesh import calls, serving
from batchmesh.agent import groups, process_table
from batchmesh.v1 import scheduler_pb2, scheduler_pb2_grpc
from tests.support.agent_node import AgentNode
from tests.support.tiny_storage import TinyStorage

from .test_worker_process import alive, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process groups are told apart by /proc")

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]


class Scheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Hears heartbeats, and asks for nothing."""

    def __init__(self) -> None:
        self.heard: list[scheduler_pb2.HeartbeatRequest] = []

    async def Heartbeat(self, request: scheduler_pb2.HeartbeatRequest, context: Any) -> scheduler_pb2.HeartbeatResponse:
        del context
        self.heard.append(request)
        return scheduler_pb2.HeartbeatResponse(heartbeat_interval=0.05)

    def has_heard(self, count: int) -> bool:
        return len(self.heard) >= count

    @property
    def lives(self) -> list[tuple[str, str]]:
        """Node id of each agent, and whom it replaces, in the order in which they came."""
        return list(dict.fromkeys((each.node_id, each.replaces) for each in self.heard))


class Agents:
    """One work folder and the agents that live in it, one after the other, as processes of their own."""

    def __init__(self, folder: Path, scheduler: Scheduler, storage: TinyStorage) -> None:
        self.work = folder / "work"
        self.scheduler = scheduler
        self._folder = folder
        self._storage = storage

    @asynccontextmanager
    async def life(self) -> AsyncIterator[tuple[subprocess.Popen[bytes], AgentNode]]:
        """An agent that serves; it is killed at the end if it is still there."""
        address, (reader, writer) = f"unix:{self._folder}/agent", os.pipe()
        line = [sys.executable, "-m", "batchmesh.agent", "--scheduler", f"unix:{self._folder}/scheduler"]
        line += ["--listen", address, "--work", str(self.work), "--slots", "1", "--ready-fd", str(writer)]
        with _started(line, writer) as process:
            os.close(writer)
            channel = calls.open_channel(address)
            try:
                said = await asyncio.to_thread(_all_of, reader)
                assert "address" in json.loads(said), said
                nothing = cast("Any", None)
                storage_address = f"unix:{self._folder}/storage"
                yield process, AgentNode(address, storage_address, self._storage, nothing, nothing, channel)
            finally:
                await channel.close()
                process.kill()


def _started(line: list[str], ready_fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(line, pass_fds=(ready_fd,))


def _all_of(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


@asynccontextmanager
async def agents_in(folder: Path) -> AsyncIterator[Agents]:
    storage = TinyStorage()  # type: ignore[abstract]
    storage_server = await storage.serve(f"unix:{folder}/storage")
    scheduler = Scheduler()  # type: ignore[abstract]
    server, _ = serving.new_server(
        lambda server: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, server), []
    )
    server.add_insecure_port(f"unix:{folder}/scheduler")
    await server.start()
    try:
        yield Agents(folder, scheduler, storage)
    finally:
        await server.stop(None)
        await storage_server.stop(None)


@contextmanager
def sleeping(**variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of its own, with these environment variables."""
    environment = {**os.environ, **variables}
    with subprocess.Popen(SLEEP, env=environment, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def left_behind(**variables: str) -> Iterator[tuple[int, int]]:
    """A process whose group's leader is gone: the group, and the process."""
    program = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({SLEEP!r}, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid)\n"
    )
    line = [sys.executable, "-c", program]
    environment = {**os.environ, **variables}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        pid = int(leader.stdout.readline())
    try:
        yield leader.pid, pid
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def record(work: Path, group: int, started: int, boot_id: str = "") -> None:
    (work / "groups").mkdir(parents=True, exist_ok=True)
    (work / "groups" / str(group)).write_text(json.dumps([started, boot_id or process_table.boot_id()]))


def started_of(pid: int) -> int:
    found = process_table.process(pid)
    assert found is not None
    return found.started


#: Its run() leaves behind what no end of its own, of its worker or of its terminal ends.
FORKS = """
import os, signal, time
def run(paths):
    if os.fork() == 0:
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            open(paths[0] + '.tmp', 'w').write(f'{os.getpid()} {os.getppid()}')
            os.rename(paths[0] + '.tmp', paths[0])
        time.sleep(600)
    time.sleep(600)
"""


def test_what_the_workers_of_a_killed_agent_have_forked_ends_when_the_next_one_starts(tmp_path: Path) -> None:
    async def story() -> None:
        async with agents_in(tmp_path) as agents:
            async with agents.life() as (process, node):
                stream = await node.open("job", {"score.py": FORKS}, 1)
                await stream.run([str(tmp_path / "pids")])
                await until((tmp_path / "pids").exists)
                (record,) = (agents.work / "groups").iterdir()
                worker = int(record.name)
                process.kill()
                process.wait()
            pids = [int(each) for each in (tmp_path / "pids").read_text().split()]
            await until(lambda: not alive(worker))
            assert all(alive(pid) for pid in pids), "else nothing is left to be ended"
            async with agents.life() as (process, _):
                assert not any(alive(pid) for pid in pids), "before it serves"
                assert not list(agents.work.glob("groups/*"))

    asyncio.run(story())


def test_an_agent_tells_whom_it_replaces_only_if_that_one_has_not_left(tmp_path: Path) -> None:
    async def story() -> None:
        async with agents_in(tmp_path) as agents:
            for signum in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                async with agents.life() as (process, _):
                    before = len(agents.scheduler.heard)
                    await until(partial(agents.scheduler.has_heard, before + 2))
                    process.send_signal(signum)
                    await asyncio.to_thread(process.wait)
            lives = agents.scheduler.lives
            assert [replaces for _, replaces in lives] == ["", lives[0][0], ""]

    asyncio.run(story())


def test_an_orderly_end_leaves_no_record(tmp_path: Path) -> None:
    async def story() -> None:
        async with agents_in(tmp_path) as agents, agents.life() as (process, node):
            stream = await node.open("job", {"score.py": "def run(paths): return paths\n"}, 1)
            await stream.run(["/a"])
            await stream.outcomes_of(1)
            assert list(agents.work.glob("groups/*"))
            assert (agents.work / "node").exists()
            await stream.finish()
            process.terminate()
            assert await asyncio.to_thread(process.wait) == 0
            assert not list(agents.work.glob("groups/*"))
            assert not (agents.work / "node").exists()

    asyncio.run(story())


def test_a_group_is_ended_by_its_leaders_number_start_and_boot(tmp_path: Path) -> None:
    with sleeping() as ours:
        record(tmp_path, ours.pid, started_of(ours.pid))
        groups.end_recorded(tmp_path)
        assert ours.wait(20) == -signal.SIGKILL
    with sleeping() as stranger, sleeping() as other_boot:
        record(tmp_path, stranger.pid, started_of(stranger.pid) - 1)
        record(tmp_path, other_boot.pid, started_of(other_boot.pid), "another")
        groups.end_recorded(tmp_path)
        assert stranger.poll() is None
        assert other_boot.poll() is None
    assert not (tmp_path / "groups").exists()


def test_a_group_without_its_leader_is_ended_only_if_it_says_that_it_is_ours(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    ours = {groups.MARK: groups.mark(tmp_path / "link")}
    with left_behind(**ours) as (group, pid), left_behind() as (strange_group, stranger):
        record(tmp_path, group, started_of(pid) - 1)
        record(tmp_path, strange_group, started_of(stranger) - 1)
        groups.end_recorded(tmp_path)
        assert not alive(pid)
        assert alive(stranger)
    with left_behind(**ours) as (group, pid):
        record(tmp_path, group, started_of(pid) + 1)
        groups.end_recorded(tmp_path)
        assert alive(pid), "it was there before the leader was"


def test_a_record_that_was_cut_off_ends_only_what_says_that_it_is_ours(tmp_path: Path) -> None:
    with sleeping(**{groups.MARK: groups.mark(tmp_path)}) as ours, sleeping() as stranger:
        for each in (ours, stranger):
            record(tmp_path, each.pid, 1)
            (tmp_path / "groups" / str(each.pid)).write_text("[12")
        groups.end_recorded(tmp_path)
        assert ours.wait(20) == -signal.SIGKILL
        assert stranger.poll() is None
