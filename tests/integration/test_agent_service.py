"""The agent's stream with a scheduler and with storage: credits, aborts, ends good and bad, slots; its command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from batchmesh import calls, serving, status
from batchmesh.agent.config import Config
from batchmesh.agent.heartbeat import Heartbeat
from batchmesh.agent.window import MOST
from batchmesh.errors import NodeDraining, NoPool, StaleScheduler
from batchmesh.v1 import agent_pb2, agent_pb2_grpc, job_pb2, scheduler_pb2, scheduler_pb2_grpc
from tests.support.agent_node import ECHO, HELD, AgentNode, Stream, agent_node, until, with_node

if TYPE_CHECKING:
    from pathlib import Path

Status = agent_pb2.PoolStatus
Failure = job_pb2.Failure


def text(node: AgentNode, job_id: str, stream: Stream) -> list[bytes]:
    """The one row of each mini-batch, in their order."""
    return [node.frame(job_id, each)[52:] for _, each in sorted(stream.outcomes.items())]


def test_credits_begin_with_two_a_worker(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", ECHO)
        await stream.until(lambda stream: stream.status.workers == 2 and stream.credits == 4)
        await stream.finish()

    with_node(tmp_path, story)


def test_a_window_of_fast_mini_batches_grows(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", ECHO, 1)
        await stream.run(*[[f"/{number}"] for number in range(3000)])
        await stream.outcomes_of(3000)
        assert stream.most_credits > 16
        assert text(node, "job", stream) == [f"/{number}\n".encode() for number in range(3000)]
        await stream.finish()
        assert node.storage.messages < 1500

    with_node(tmp_path, story)


def test_no_mini_batch_waits_behind_a_slow_one_while_another_worker_is_idle(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        script = {
            "score.py": HELD["score.py"].replace(
                "def run(paths):", "def run(paths):\n    if len(paths) > 1: return paths"
            )
        }
        stream = await node.open("job", script)
        await stream.until(lambda stream: stream.status.workers == 2)
        await stream.run([f"{tmp_path}/slow"], *[["/a", "/b"]] * 20)
        await stream.outcomes_of(20)
        assert 1 not in stream.outcomes
        (tmp_path / "go").touch()
        await stream.outcomes_of(21)
        await stream.finish()

    with_node(tmp_path, story)


def test_a_source_that_storage_lacks_fails_the_pool(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", ECHO, entry_script="score.py")
        await stream.finish()
        request = agent_pb2.OpenPool(
            job_id="other", spec=job_pb2.JobSpec(source_digest="0" * 64), storage_address=node.storage_address, epoch=1
        )
        call = agent_pb2_grpc.AgentServiceStub(node.channel).RunMiniBatches()
        await call.write(agent_pb2.RunMiniBatchesRequest(open=request))
        other = Stream(call)
        await other.until(lambda stream: stream.status.phase == Status.PHASE_FAILED)
        assert other.status.failure.kind == Failure.KIND_ENVIRONMENT
        assert "There is no artifact" in other.status.failure.message
        await other.finish()

    with_node(tmp_path, story)


def test_what_is_refused_is_a_status_with_its_reason(tmp_path: Path) -> None:
    async def refusal(node: AgentNode, request: agent_pb2.RunMiniBatchesRequest) -> Exception:
        call = agent_pb2_grpc.AgentServiceStub(node.channel).RunMiniBatches()
        await call.write(request)
        with pytest.raises(grpc.RpcError) as caught:
            await call.read()
        return status.from_rpc_error(caught.value)

    async def story(node: AgentNode) -> None:
        assert isinstance(await refusal(node, agent_pb2.RunMiniBatchesRequest()), NoPool)
        stream = await node.open("job", ECHO, epoch=5)
        await stream.until(lambda stream: stream.phases)
        for job_id in ("job", "other"):
            late = agent_pb2.RunMiniBatchesRequest(open=agent_pb2.OpenPool(job_id=job_id, epoch=4))
            assert isinstance(await refusal(node, late), StaleScheduler)
        node.node.draining = True
        other = agent_pb2.RunMiniBatchesRequest(open=agent_pb2.OpenPool(job_id="other", epoch=5))
        assert isinstance(await refusal(node, other), NodeDraining)
        await stream.finish()

    with_node(tmp_path, story)


def test_finish_answers_everything_that_is_open(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", HELD)
        await stream.until(lambda stream: stream.status.workers == 2 and stream.credits == 4)
        await stream.run(*[[f"{tmp_path}/{number}"] for number in range(4)])
        await stream.say(finish=True)
        (tmp_path / "go").touch()
        await stream.until_ended()
        assert sorted(stream.outcomes) == [1, 2, 3, 4]

    with_node(tmp_path, story)


def test_aborted_attempts_are_answered_as_not_started(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", HELD, 1)
        await stream.run([f"{tmp_path}/1"], [f"{tmp_path}/2"], [f"{tmp_path}/3"])
        await until((tmp_path / "1").exists)
        await stream.abort(1, 2, 99)
        (tmp_path / "go").touch()
        outcomes = await stream.outcomes_of(3)
        kinds = {number: each.failure and each.failure.kind for number, each in outcomes.items()}
        assert kinds == {1: Failure.KIND_NOT_STARTED, 2: Failure.KIND_NOT_STARTED, 3: None}
        await stream.finish()

    with_node(tmp_path, story)


def test_abort_all_ends_everything_and_answers_nothing(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", HELD, 1)
        await stream.run([f"{tmp_path}/1"], [f"{tmp_path}/2"])
        await until((tmp_path / "1").exists)
        await stream.abort_all()
        assert not stream.outcomes
        assert not (tmp_path / "2").exists()

    with_node(tmp_path, story)


def test_while_storage_is_away_workers_wait_at_the_bound_and_go_on_after(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        node.storage.takes.clear()
        stream = await node.open("job", {"score.py": "def run(paths):\n    return [paths[0] * 1000]\n"})
        await stream.run(*[[f"/{number:04d}"] for number in range(600)])
        await until(lambda: node.node.budget.full)
        assert not stream.outcomes
        on_its_way = 2 * (1 + MOST)  # with both workers when the bound was reached
        assert node.node.budget.used < 50_000 + on_its_way * 5_100
        node.storage.takes.set()
        await stream.outcomes_of(600)
        await stream.finish()
        assert text(node, "job", stream) == [f"/{number:04d}".encode() * 1000 + b"\n" for number in range(600)]
        assert node.node.budget.used == 0

    with_node(tmp_path, story, unacknowledged_bytes=50_000)


def test_of_large_results_that_come_at_once_those_wait_for_which_there_is_no_room(tmp_path: Path) -> None:
    script = HELD["score.py"].replace("return [str(os.getpid())]", "return ['x' * 3_000_000]")
    script = script.replace("def run(paths):", "def run(paths):\n    if len(paths) > 1: return ['small']")

    async def story(node: AgentNode) -> None:
        node.storage.takes.clear()
        stream = await node.open("job", {"score.py": script})
        await stream.until(lambda stream: stream.status.workers == 3)
        await stream.run([f"{tmp_path}/1"], [f"{tmp_path}/2"])
        await until(lambda: (tmp_path / "1").exists() and (tmp_path / "2").exists())
        (tmp_path / "go").touch()
        await until(lambda: node.node.budget.used >= 3_000_000)
        await stream.run(["/a", "/b"], first=3)
        await until(lambda: node.node.budget.used > 3_000_100)
        assert node.node.budget.used < 4_000_000
        node.storage.takes.set()
        await stream.outcomes_of(3)
        await stream.finish()
        assert (node.node.budget.used, node.node.pools.incoming) == (0, 0)

    with_node(tmp_path, story, unacknowledged_bytes=4_000_000, slots=3)


def test_a_storage_stream_that_breaks_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        node.storage.break_after_writing = 3
        stream = await node.open("job", ECHO)
        await stream.run(*[[f"/{number:04d}"] for number in range(500)])
        await stream.outcomes_of(500)
        await stream.finish()
        assert text(node, "job", stream) == [f"/{number:04d}\n".encode() for number in range(500)]
        written = sum(len(segment) for segment in node.storage.segments.values())
        assert written == sum(each.place[2] for each in stream.outcomes.values())

    with_node(tmp_path, story)


def test_a_full_storage_is_told_and_its_results_go_there_when_it_has_room(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        node.storage.full = True
        stream = await node.open("job", ECHO, 1)
        await stream.run(["/a"])
        await stream.until(lambda stream: stream.status.held_up)
        assert stream.status.held_up == "The disk is full, says the test."
        assert stream.status.phase == Status.PHASE_READY
        assert not stream.outcomes
        node.storage.full = False
        await stream.outcomes_of(1)
        await stream.until(lambda stream: not stream.status.held_up)
        assert text(node, "job", stream) == [b"/a\n"]
        await stream.finish()

    with_node(tmp_path, story)


def test_a_storage_that_acknowledges_nothing_is_asked_again_on_another_stream(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        node.storage.takes.clear()
        stream = await node.open("job", ECHO, 1)
        await stream.run(["/a"])
        await until(lambda: node.storage.streams >= 3)
        node.storage.takes.set()
        await stream.outcomes_of(1)
        assert text(node, "job", stream) == [b"/a\n"]
        await stream.finish()

    with_node(tmp_path, story, acknowledgement_timeout=0.2)


def test_results_go_to_a_new_segment_when_storage_has_lost_the_old_one(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", ECHO, 1)
        await stream.run(["/a"])
        await stream.outcomes_of(1)
        node.storage.segments.clear()
        await stream.run(["/b"], first=2)
        outcomes = await stream.outcomes_of(2)
        assert outcomes[2].place[0] != outcomes[1].place[0]
        assert node.frame("job", outcomes[2]).endswith(b"/b\n")
        await stream.finish()

    with_node(tmp_path, story)


def test_a_pool_without_a_worker_gets_one_at_the_next_idle_moment_and_no_run_is_killed(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        rich = await node.open("rich", HELD)
        await rich.until(lambda stream: stream.status.workers == 2)
        await rich.run([f"{tmp_path}/1"], [f"{tmp_path}/2"])
        await until(lambda: (tmp_path / "1").exists() and (tmp_path / "2").exists())
        poor = await node.open("poor", ECHO)
        await poor.until(lambda stream: stream.status.phase == Status.PHASE_WAITING_FOR_SLOTS)
        (tmp_path / "go").touch()
        await poor.run(["/a"])
        assert (await poor.outcomes_of(1))[1].failure is None
        assert all(each.failure is None for each in (await rich.outcomes_of(2)).values())
        assert rich.status.workers == 1
        await poor.finish()
        await rich.until(lambda stream: stream.status.workers == 2)
        await rich.finish()

    with_node(tmp_path, story)


def test_idle_warm_workers_yield_to_a_job_that_waits(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        for job_id in ("one", "two"):
            stream = await node.open(job_id, {"score.py": f"# {job_id}\ndef run(paths): return paths\n"})
            await stream.until(lambda stream: stream.status.workers == 2)
            assert node.node.pools.workers == 2
            await stream.finish()

    with_node(tmp_path, story)


class TinyScheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Takes heartbeats and keeps them."""

    def __init__(self) -> None:
        self.beats: list[scheduler_pb2.HeartbeatRequest] = []

    async def Heartbeat(self, request: Any, context: Any) -> scheduler_pb2.HeartbeatResponse:
        self.beats.append(request)
        return scheduler_pb2.HeartbeatResponse(storage_address="unix:/nowhere", heartbeat_interval=0.05, lease=1)

    async def serve(self, address: str) -> Any:
        server, _ = serving.new_server(
            lambda server: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(self, server), []
        )
        server.add_insecure_port(address)
        await server.start()
        return server


def start(*arguments: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """An agent's process, and what it announced."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "batchmesh.agent", "--ready-fd", str(write), "--end-with-parent", *arguments],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        announced: dict[str, Any] = json.loads(pipe.readline())
    return process, announced


def test_an_agent_joins_a_scheduler_that_comes_late_and_leaves_it_on_sigterm(tmp_path: Path) -> None:
    async def story() -> None:
        scheduler = TinyScheduler()  # type: ignore[abstract]
        address = f"unix:{tmp_path}/scheduler"
        process, announced = start("--scheduler", address, "--slots", "3", "--name", "host 7")
        server = await scheduler.serve(address)
        await until(lambda: scheduler.beats)
        beat = scheduler.beats[0]
        assert (beat.address, beat.slots, beat.draining) == (announced["address"], 3, False)
        assert beat.node_id.startswith("host-7-")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert scheduler.beats[-1].leaving
        await server.stop(0)

    asyncio.run(story())


def test_a_draining_agent_finishes_what_is_open(tmp_path: Path) -> None:
    async def story() -> None:
        scheduler = TinyScheduler()  # type: ignore[abstract]
        server = await scheduler.serve(f"unix:{tmp_path}/scheduler")
        async with agent_node(tmp_path) as helper:
            process, announced = start("--scheduler", f"unix:{tmp_path}/scheduler", "--slots", "1")
            channel = calls.open_channel(announced["address"])
            node = AgentNode("", helper.storage_address, helper.storage, helper.node, helper.service, channel)
            stream = await node.open("job", HELD)
            await stream.run([f"{tmp_path}/1"])
            await until((tmp_path / "1").exists)
            process.send_signal(signal.SIGTERM)
            await until(lambda: scheduler.beats[-1].draining)
            (tmp_path / "go").touch()
            assert (await stream.outcomes_of(1))[1].failure is None
            await stream.finish()
            assert await asyncio.to_thread(process.wait, 20) == 0
            await channel.close()
        await server.stop(0)

    asyncio.run(story())


def test_a_draining_agent_stays_until_what_it_has_told_is_acknowledged(tmp_path: Path) -> None:
    async def story() -> None:
        scheduler = TinyScheduler()  # type: ignore[abstract]
        server = await scheduler.serve(f"unix:{tmp_path}/scheduler")
        async with agent_node(tmp_path) as helper:
            process, announced = start("--scheduler", f"unix:{tmp_path}/scheduler", "--slots", "1")
            channel = calls.open_channel(announced["address"])
            node = AgentNode("", helper.storage_address, helper.storage, helper.node, helper.service, channel)
            first = await node.open("job", ECHO, acknowledging=False)
            await first.run(["/a"])
            await first.outcomes_of(1)
            process.send_signal(signal.SIGTERM)
            await until(lambda: scheduler.beats[-1].draining)
            await first.cut()
            second = await node.open("job", ECHO)
            assert (await second.outcomes_of(1))[1].failure is None
            await second.finish()
            assert await asyncio.to_thread(process.wait, 20) == 0
            assert scheduler.beats[-1].leaving
            await channel.close()
        await server.stop(0)

    asyncio.run(story())


def test_heartbeats_name_the_node_whose_place_an_agent_takes(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        scheduler = TinyScheduler()  # type: ignore[abstract]
        server = await scheduler.serve(f"unix:{tmp_path}/scheduler")
        config = Config(scheduler=f"unix:{tmp_path}/scheduler", work=tmp_path)
        heartbeat = Heartbeat(config, node.node, node.address, replaces="the-one-before")
        await until(lambda: scheduler.beats)
        await heartbeat.leave()
        assert {each.replaces for each in scheduler.beats} == {"the-one-before"}
        await server.stop(0)

    with_node(tmp_path, story)


def test_a_second_signal_ends_the_agent_and_its_workers_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with agent_node(tmp_path) as helper:
            process, announced = start("--scheduler", "unix:/nowhere", "--work", str(tmp_path / "other"))
            channel = calls.open_channel(announced["address"])
            node = AgentNode("", helper.storage_address, helper.storage, helper.node, helper.service, channel)
            stream = await node.open("job", HELD, 1)
            await stream.run([f"{tmp_path}/1"])
            await until((tmp_path / "1").exists)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                await asyncio.sleep(0.05)
            assert process.returncode in (1, -signal.SIGINT)
            assert not (tmp_path / "other" / "pools").exists()
            await channel.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--listen", "0.0.0.0:0"], "add --insecure"),
        (["--listen", "0.0.0.0:0", "--insecure"], "--advertise HOST:PORT"),
        (["--listen", "here"], "'here' is no address"),
    ],
)
def test_what_the_command_line_may_not_ask_for_is_one_sentence_and_exit_status_2(
    arguments: list[str], sentence: str
) -> None:
    process, announced = start("--scheduler", "127.0.0.1:1", *arguments)
    assert sentence in announced["error"]
    assert process.wait(20) == 2


def test_two_agents_do_not_share_a_work_folder(tmp_path: Path) -> None:
    first, _ = start("--scheduler", "127.0.0.1:1", "--work", str(tmp_path))
    second, announced = start("--scheduler", "127.0.0.1:1", "--work", str(tmp_path))
    assert "give each its own --work folder" in announced["error"]
    assert second.wait(20) == 2
    first.terminate()
    assert first.wait(20) == 0


def test_what_was_sent_along_behind_a_surprisingly_slow_one_runs_elsewhere_once(tmp_path: Path) -> None:
    """Fast mini-batches open the window, so that many lie with the worker when one of them hangs."""
    script = f"""
import pathlib, time
def run(paths):
    with open("{tmp_path}/runs", "a") as file:
        file.write(paths[0] + "\\n")
    while "slow" in paths[0] and not pathlib.Path("{tmp_path}/go").exists():
        time.sleep(0.005)
    return paths
"""

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script})
        await stream.until(lambda stream: stream.status.workers == 2)
        paths = [[f"/{number}"] for number in range(2000)]
        paths[1000] = ["/slow"]
        await stream.run(*paths)
        await stream.outcomes_of(1990)
        await stream.until(lambda stream: len(stream.outcomes) >= 1999)
        assert 1001 not in stream.outcomes
        (tmp_path / "go").touch()
        await stream.outcomes_of(2000)
        assert all(each.failure is None for each in stream.outcomes.values())
        await stream.finish()
        assert sorted((tmp_path / "runs").read_text().split()) == sorted(path for [path] in paths)

    with_node(tmp_path, story)


def test_nothing_is_given_to_a_worker_whose_run_takes_long(tmp_path: Path) -> None:
    """It would wait there, and be run by two workers once it was taken away again."""
    script = f"""
import pathlib, time
def run(paths):
    with open("{tmp_path}/runs", "a") as file:
        file.write(paths[0] + "\\n")
    while "slow" in paths[0] and not pathlib.Path("{tmp_path}/go").exists():
        time.sleep(0.005)
    return paths
"""
    fast = [[f"/{number}"] for number in range(1210)]

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script})
        await stream.until(lambda stream: stream.status.workers == 2)
        await stream.run(*fast[:1000])
        await stream.outcomes_of(1000)
        await stream.run(["/slow"], *fast[1000:1010], first=1001)
        await stream.outcomes_of(1010)
        await stream.run(*fast[1010:], first=1012)
        await stream.outcomes_of(1210)
        assert 1001 not in stream.outcomes
        (tmp_path / "go").touch()
        await stream.outcomes_of(1211)
        await stream.run(["/after"], first=1212)
        await stream.outcomes_of(1212)
        await stream.finish()
        runs = (tmp_path / "runs").read_text().split()
        assert sorted(runs) == sorted(path for [path] in [*fast, ["/slow"], ["/after"]])

    with_node(tmp_path, story)
