"""An attempt outlives the stream that brought it: what a node keeps, tells again, and after a lease gives up."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import grpc

from batchmesh import status
from batchmesh.errors import NodeDraining, StaleScheduler
from batchmesh.v1 import agent_pb2, job_pb2
from tests.support.agent_node import ECHO, HELD, AgentNode, Stream, until, with_node

if TYPE_CHECKING:
    from pathlib import Path

Status = agent_pb2.PoolStatus
Failure = job_pb2.Failure
#: A lease that is over at the next tick.
NO_LEASE = 0.001
SECOND = 10**9


def ids(stream: Stream) -> list[int]:
    return sorted(attempt_id for attempt_id, _, _ in stream.held or ())


async def held_up_in_run(folder: Path, node: AgentNode, *numbers: int, lease: float = 60.0) -> Stream:
    """A stream whose attempts of these numbers have all begun."""
    stream = await node.open("job", HELD, lease=lease)
    await stream.until(lambda stream: stream.status.workers == 2)
    await stream.run(*[[f"{folder}/{number}"] for number in numbers], first=numbers[0])
    await until(lambda: all((folder / str(number)).exists() for number in numbers))
    return stream


def test_a_stream_begins_with_what_is_held_which_is_nothing_of_a_new_job(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", ECHO)
        await stream.until(lambda stream: stream.held is not None)
        assert stream.held == []
        await stream.finish()

    with_node(tmp_path, story)


def test_a_cut_stream_costs_no_run(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1, 2)
        await first.cut()
        second = await node.open("job", HELD)
        await second.until(lambda stream: stream.held is not None)
        assert ids(second) == [1, 2]
        (tmp_path / "go").touch()
        outcomes = await second.outcomes_of(2)
        assert [each.failure for each in outcomes.values()] == [None, None]
        workers = {os.fsdecode(node.frame("job", each)[52:]).strip() for each in outcomes.values()}
        assert len(workers) == 2
        await second.finish()

    with_node(tmp_path, story)


def test_what_is_held_of_a_job_is_nothing_to_another_one_of_its_id(tmp_path: Path) -> None:
    """It was deleted, or has ended and is resumed, while no stream led here."""

    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1)
        await first.cut()
        second = await node.open("job", HELD, life=1)
        await second.until(lambda stream: stream.held is not None)
        assert second.held == []
        await second.until(lambda stream: stream.status.workers == 2)
        (tmp_path / "go").touch()
        await second.run([f"{tmp_path}/2"], first=2)
        assert set(await second.outcomes_of(1)) == {2}
        await second.finish()

    with_node(tmp_path, story)


def test_a_half_close_without_finish_is_a_cut(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1)
        await first.call.done_writing()
        await first.until_ended()
        second = await node.open("job", HELD)
        await second.until(lambda stream: stream.held is not None)
        assert ids(second) == [1]
        (tmp_path / "go").touch()
        assert (await second.outcomes_of(1))[1].failure is None
        await second.finish()

    with_node(tmp_path, story)


def test_what_ends_while_no_stream_is_there_is_told_on_the_next(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1, 2)
        await first.cut()
        (tmp_path / "go").touch()
        await until(lambda: any(node.storage.segments.values()))
        second = await node.open("job", HELD)
        assert sorted(await second.outcomes_of(2)) == [1, 2]
        assert ids(second) == [1, 2]
        await second.finish()

    with_node(tmp_path, story)


def test_held_names_the_part_and_what_waits_in_line(tmp_path: Path) -> None:
    part = 2 << 40 | 5

    async def story(node: AgentNode) -> None:
        first = await node.open("job", HELD, 1)
        await first.run([f"{tmp_path}/7"], [f"{tmp_path}/8"], first=7, part=part)
        await until((tmp_path / "7").exists)
        await first.cut()
        second = await node.open("job", HELD, 1)
        await second.until(lambda stream: stream.held is not None)
        assert second.held == [(7, 7, part), (8, 8, part)]
        (tmp_path / "go").touch()
        await second.outcomes_of(2)
        await second.finish()

    with_node(tmp_path, story)


def test_only_what_was_not_acknowledged_is_told_again(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await node.open("job", ECHO, acknowledging=False)
        await first.run(["/1"])
        await first.outcomes_of(1)
        await first.run(["/2"], first=2)
        await first.outcomes_of(2)
        await first.run(["no such call"], first=3)
        await first.outcomes_of(3)
        await first.acknowledge(first.told - 1)
        job = node.service.job("job")
        assert job is not None
        await until(lambda: len(list(job.outbox.held())) == 1)
        await first.cut()
        second = await node.open("job", ECHO)
        assert sorted(await second.outcomes_of(1)) == [3] == ids(second)
        assert second.outcomes[3] == first.outcomes[3]
        await second.finish()
        assert sorted(second.outcomes) == [3]

    with_node(tmp_path, story)


def test_a_failure_is_told_again_with_its_words(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        script = {"score.py": "def run(paths):\n    raise ValueError(paths[0])\n"}
        first = await node.open("job", script, acknowledging=False)
        await first.run(["/1"])
        told = (await first.outcomes_of(1))[1].failure
        await first.cut()
        second = await node.open("job", script)
        again = (await second.outcomes_of(1))[1].failure
        assert told is not None
        assert told == again
        assert "ValueError" in told.message
        await second.finish()

    with_node(tmp_path, story)


def test_what_a_life_of_the_stream_has_not_counted_is_not_acknowledged_by_the_next(tmp_path: Path) -> None:
    """The count begins anew with each stream."""

    async def story(node: AgentNode) -> None:
        first = await node.open("job", ECHO)
        for number in range(1, 6):
            await first.run([f"/{number}"], first=number)
            await first.outcomes_of(number)
        first.acknowledging = False
        await first.run(["/6"], first=6)
        await first.outcomes_of(6)
        await first.cut()
        second = await node.open("job", ECHO, acknowledging=False)
        await second.outcomes_of(1)
        await second.cut()
        third = await node.open("job", ECHO)
        assert sorted(await third.outcomes_of(1)) == [6]
        await third.finish()

    with_node(tmp_path, story)


def test_credits_of_a_new_stream_are_the_window_less_what_is_open(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1)
        await first.until(lambda stream: stream.credits == 3)
        await first.cut()
        second = await node.open("job", HELD)
        await second.until(lambda stream: stream.credits)
        assert second.credits == 3
        (tmp_path / "go").touch()
        await second.outcomes_of(1)
        await second.finish()

    with_node(tmp_path, story)


def test_the_newest_stream_takes_the_place_of_one_that_looks_alive(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1)
        second = await node.open("job", HELD)
        await second.until(lambda stream: stream.held is not None)
        await first.until_ended()
        assert ids(second) == [1]
        (tmp_path / "go").touch()
        assert (await second.outcomes_of(1))[1].failure is None
        assert not first.outcomes
        await second.finish()

    with_node(tmp_path, story)


def test_the_end_of_an_older_stream_costs_the_newer_one_nothing(tmp_path: Path) -> None:
    """Its lease would be over at once if the older one's end were taken for the job's."""

    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1, lease=NO_LEASE)
        second = await node.open("job", HELD, lease=NO_LEASE)
        await first.until_ended()
        (tmp_path / "go").touch()
        assert (await second.outcomes_of(1))[1].failure is None
        await second.run([f"{tmp_path}/2"], first=2)
        await second.outcomes_of(2)
        await second.finish()

    with_node(tmp_path, story)


def test_a_scheduler_of_an_earlier_start_cannot_take_a_job_back(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1)
        second = await node.open("job", HELD, epoch=7)
        await first.until_ended()
        late = await node.open("job", HELD, epoch=6)
        await late.until(lambda stream: stream.ended)
        assert isinstance(late.error, grpc.RpcError)
        assert isinstance(status.from_rpc_error(late.error), StaleScheduler)
        (tmp_path / "go").touch()
        assert (await second.outcomes_of(1))[1].failure is None
        await second.finish()

    with_node(tmp_path, story)


def test_after_its_lease_a_job_is_forgotten_and_its_idle_workers_stay_warm(tmp_path: Path) -> None:
    script = HELD["score.py"] + f"\ndef init():\n    open('{tmp_path}/inits', 'a').write(f'{{os.getpid()}} ')\n"

    async def story(node: AgentNode) -> None:
        first = await node.open("job", {"score.py": script}, lease=NO_LEASE)
        await first.until(lambda stream: stream.status.workers == 2)
        await first.run([f"{tmp_path}/1"])
        await until((tmp_path / "1").exists)
        await first.cut()
        await until(lambda: not node.service.serving and node.node.pools.workers == 1)
        before = (tmp_path / "inits").read_text().split()
        (tmp_path / "go").touch()
        second = await node.open("job", {"score.py": script})
        await second.until(lambda stream: stream.held is not None)
        assert second.held == []
        await second.run([f"{tmp_path}/2"], first=2)
        outcomes = await second.outcomes_of(1)
        assert sorted(outcomes) == [2]
        assert node.frame("job", outcomes[2])[52:].decode().strip() in before
        await second.finish()

    with_node(tmp_path, story)


def test_a_pause_of_the_agent_is_no_part_of_the_lease(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1)
        await first.cut()
        job = node.service.job("job")
        assert job is not None
        await until(lambda: not job.attached)
        now = time.monotonic_ns()
        job.tick(now + 59 * SECOND, 0)
        job.tick(now + 61 * SECOND, 3 * SECOND)
        assert not job.ending, "an agent that was paused could not hear the scheduler"
        job.tick(now + 64 * SECOND, 0)
        await until(lambda: not node.service.serving)

    with_node(tmp_path, story, tick=3600.0)


def test_finish_waits_for_the_last_acknowledgement(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await node.open("job", ECHO, acknowledging=False)
        await stream.run(["/1"])
        await stream.outcomes_of(1)
        await stream.say(finish=True)
        job = node.service.job("job")
        assert job is not None
        await until(lambda: job.target == 4)
        assert not stream.ended
        assert not job.ending
        await stream.acknowledge(1)
        await stream.until_ended()
        assert not node.service.serving

    with_node(tmp_path, story)


def test_a_stream_that_breaks_after_finish_is_taken_up_like_any_other(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1)
        await first.say(finish=True)
        await first.cut()
        (tmp_path / "go").touch()
        second = await node.open("job", HELD)
        await second.outcomes_of(1)
        await second.run([f"{tmp_path}/2"], first=2)
        await second.outcomes_of(2)
        await second.finish()

    with_node(tmp_path, story)


def test_attempts_of_an_earlier_stream_can_be_aborted(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await node.open("job", HELD, 1)
        await first.run([f"{tmp_path}/1"], [f"{tmp_path}/2"], [f"{tmp_path}/3"])
        await until((tmp_path / "1").exists)
        await first.cut()
        second = await node.open("job", HELD, 1)
        await second.until(lambda stream: stream.held is not None)
        await second.abort(*ids(second))
        outcomes = await second.outcomes_of(len(ids(second)))
        assert {each.failure and each.failure.kind for each in outcomes.values()} == {Failure.KIND_NOT_STARTED}
        await second.finish()

    with_node(tmp_path, story)


def test_abort_all_after_a_takeover_ends_what_an_earlier_stream_began(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1, 2)
        await first.cut()
        second = await node.open("job", HELD)
        await second.until(lambda stream: stream.held is not None)
        await second.abort_all()
        assert not second.outcomes
        await until(lambda: not node.node.pools.workers)
        assert not node.service.serving

    with_node(tmp_path, story)


def test_a_job_that_goes_on_with_other_settings_begins_anew_on_a_node_that_held_it(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1)
        await first.cut()
        (tmp_path / "go").touch()
        second = await node.open("job", HELD, run_invocation_timeout=7.0)
        await second.until(lambda stream: stream.held is not None)
        assert second.held == []
        await second.run([f"{tmp_path}/2"], first=2)
        assert sorted(await second.outcomes_of(1)) == [2]
        await second.finish()
        await until(lambda: not node.service.serving)

    with_node(tmp_path, story)


def test_a_draining_node_lets_a_stream_come_back_to_a_job_that_it_holds(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await held_up_in_run(tmp_path, node, 1)
        await first.cut()
        node.node.draining = True
        other = await node.open("other", HELD)
        await other.until(lambda stream: stream.ended)
        assert isinstance(other.error, grpc.RpcError)
        assert isinstance(status.from_rpc_error(other.error), NodeDraining)
        second = await node.open("job", HELD)
        await second.until(lambda stream: stream.held is not None)
        (tmp_path / "go").touch()
        await second.outcomes_of(1)
        assert second.credits == 0
        await second.finish()

    with_node(tmp_path, story)


def test_a_node_with_outcomes_that_nobody_has_acknowledged_is_not_idle(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        first = await node.open("job", ECHO, acknowledging=False)
        await first.run(["/1"])
        await first.outcomes_of(1)
        assert not node.service.idle
        await first.cut()
        assert not node.service.idle
        second = await node.open("job", ECHO)
        await second.outcomes_of(1)
        await until(lambda: node.service.idle)
        await second.finish()

    with_node(tmp_path, story)


def test_many_cuts_lose_and_double_nothing(tmp_path: Path) -> None:
    """Each stream sends what no earlier one has brought; what was acknowledged comes once, and every frame is there."""
    cuts = 12
    paths = [f"/{number:04d}" for number in range(600)]

    async def story(node: AgentNode) -> None:
        done: dict[int, bytes] = {}
        sent = 0
        for turn in range(cuts + 1):
            stream = await node.open("job", ECHO, epoch=turn + 1)
            await stream.until(lambda stream: stream.held is not None)
            missing = [number for number in range(1, sent + 1) if number not in done and number not in ids(stream)]
            for number in missing:
                await stream.run([paths[number - 1]], first=number)
            fresh = paths[sent : sent + 50] if turn < cuts else paths[sent:]
            await stream.run(*[[path] for path in fresh], first=sent + 1)
            sent += len(fresh)
            open_here = len(missing) + len(fresh) + len(ids(stream))
            await stream.outcomes_of(open_here if turn == cuts else open_here // 2)
            if turn < cuts:
                await stream.cut()
            else:
                await stream.finish()
            for number, outcome in stream.outcomes.items():
                frame = node.frame("job", outcome)[52:]
                assert done.setdefault(number, frame) == frame
        assert [done[number] for number in sorted(done)] == [f"{path}\n".encode() for path in paths]

    with_node(tmp_path, story)
