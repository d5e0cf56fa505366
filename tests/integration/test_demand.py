"""The line between the scheduler and the supervisor: how many agents there should be, and what became of them."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from batchmesh.scheduler.compute import ComputeTargets
from batchmesh.scheduler.model import State
from batchmesh.scheduler.target_rows import TargetRow, put_target
from batchmesh.v1.scheduler_pb2 import ComputeTarget
from tests.support.scripted_agents import play, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from batchmesh.scheduler.store import Store
    from batchmesh.scheduler.tables import JobRow
    from tests.support.scripted_agents import Scene


class Supervisor:
    """One that writes down what it is told, and says what the test has it say."""

    def __init__(self, crew: dict[str, int]) -> None:
        self.told: list[list[dict[str, Any]]] = []
        self._crew = crew
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.say(crew=self._crew)
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.told.append(json.loads(line)["demands"])
        writer.close()

    def say(self, **line: Any) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(line).encode() + b"\n")

    def leave(self) -> None:
        assert self._writer is not None
        self._writer.close()

    async def wants(self, nodes: int, idle: list[str]) -> None:
        """Waits until so many nodes are the newest demand, with these idle."""
        wanted = [{"compute_target": "cpu", "nodes": nodes, "slots": 1, "idle": idle}]
        await until(lambda: self.told and self.told[-1] == wanted, f"{nodes} nodes, {idle} idle; not {self.told[-1:]}")


@asynccontextmanager
async def supervised(scene: Scene, path: Path, **crew: int) -> AsyncIterator[tuple[Supervisor, ComputeTargets]]:
    supervisor = Supervisor(crew)
    async with await asyncio.start_unix_server(supervisor.serve, path):
        targets = ComputeTargets(scene.store, scene.dispatcher, str(path))
        await targets.begin()
        scene.dispatcher.spawn(targets.run())
        yield supervisor, targets
        targets.close()


def of_cpu(**settings: Any) -> Callable[[Store, JobRow], None]:
    """A database with that local target."""
    target = ComputeTarget(name="cpu", kind=ComputeTarget.KIND_LOCAL, slots=1, **settings)
    return lambda store, _: store.write(put_target(TargetRow("cpu", target.SerializeToString(), 1.0))).result()


def test_the_supervisor_is_told_at_once_and_after_each_change_what_jobs_need_and_who_is_idle(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        async with supervised(scene, tmp_path / "demand") as (supervisor, targets):
            assert "compute target cpu has no node yet (0 of 2)" in targets.without_nodes("cpu")
            await supervisor.wants(2, idle=[])
            await scene.beat("a", compute_target="cpu")
            await supervisor.wants(2, idle=[scene.agents["a"].address])
            line = await scene.agents["a"].line()
            line.hold()
            line.ready(2)
            await supervisor.wants(2, idle=[])
            assert targets.get("cpu").busy_nodes == 1
            line.succeeded(*line.sent)
            assert await scene.ended() is State.SUCCEEDED
            await supervisor.wants(0, idle=[scene.agents["a"].address])

    before = of_cpu(max_nodes=3, idle_seconds=0.0)
    play(tmp_path, story, mini_batches=2, agents="a", before=before, compute_target="cpu")


def test_the_agents_that_a_restarted_scheduler_finds_stay_for_the_idle_time(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        async with supervised(scene, tmp_path / "demand", cpu=3, gone=1) as (supervisor, targets):
            await supervisor.wants(3, idle=[])
            assert targets.get("cpu").wanted_nodes == 3
            given = ComputeTarget(name="cpu", kind=ComputeTarget.KIND_LOCAL, slots=1, max_nodes=3, idle_seconds=0)
            await targets.create(given)
            await supervisor.wants(0, idle=[])

    play(tmp_path, story, mini_batches=1, agents="", before=of_cpu(max_nodes=3, idle_seconds=3600.0))


def test_what_went_wrong_with_agents_is_said_until_all_is_well(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        async with supervised(scene, tmp_path / "demand") as (supervisor, targets):
            supervisor.say(compute_target="gone", error="whatever")
            supervisor.say(compute_target="cpu", error="The agent cannot start.")
            await until(lambda: targets.get("cpu").error == "The agent cannot start.", "the error")
            assert targets.without_nodes("cpu").endswith("(0 of 1): The agent cannot start.")
            supervisor.say(compute_target="cpu", error="")
            await until(lambda: not targets.get("cpu").error, "the end of it")
            supervisor.leave()
            await until(lambda: targets.get("cpu").error == "nobody here can start its agents", "its supervisor to go")

    play(tmp_path, story, mini_batches=1, agents="", before=of_cpu(max_nodes=3, idle_seconds=1.0))


def test_a_supervisor_that_was_silent_for_a_while_is_told_again(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        async with supervised(scene, tmp_path / "demand") as (supervisor, targets):
            supervisor.leave()
            await until(lambda: targets.get("cpu").error == "nobody here can start its agents", "its silence")
            supervisor.told.clear()
            await supervisor.wants(1, idle=[])
            assert not targets.get("cpu").error

    play(tmp_path, story, mini_batches=1, agents="", before=of_cpu(max_nodes=3, idle_seconds=1.0, min_nodes=1))


def test_a_supervisor_that_is_not_there_leaves_local_targets_without_anybody(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        for path in ("", str(tmp_path / "nowhere")):
            targets = ComputeTargets(scene.store, scene.dispatcher, path)
            await targets.begin()
            assert targets.without_nodes("cpu").endswith("has no node yet (0 of 1): nobody here can start its agents")

    play(tmp_path, story, mini_batches=1, agents="", before=of_cpu(max_nodes=3, idle_seconds=1.0))
