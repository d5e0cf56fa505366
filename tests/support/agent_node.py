"""An agent's service on the test's own event loop, with real workers, real gRPC and a tiny storage.

And the scheduler's end of a stream to it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batchmesh import calls, serving
from batchmesh.agent.artifacts import Artifacts
from batchmesh.agent.budget import Budget
from batchmesh.agent.config import Config
from batchmesh.agent.environments import Environments
from batchmesh.agent.fetching import Fetching
from batchmesh.agent.files import Files
from batchmesh.agent.groups import Groups
from batchmesh.agent.job import Node
from batchmesh.agent.pools import Pools
from batchmesh.agent.scanning import Scanning
from batchmesh.agent.service import SERVICE_NAME, AgentService
from batchmesh.agent.storages import Storages
from batchmesh.agent.supplies import Supplier
from batchmesh.data.slices import encode_slice
from batchmesh.datastores.cache import Cache
from batchmesh.datastores.opening import open_datastore
from batchmesh.v1 import agent_pb2, agent_pb2_grpc, job_pb2

from .tiny_storage import TinyStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from pathlib import Path

    from batchmesh.data.slices import SliceFields
    from batchmesh.datastores.store import Datastore
    from batchmesh.entries import Entry

#: Seconds in which anything that these tests wait for has long happened.
PATIENCE = 30.0

#: Entry scripts: one that gives its paths back, and one that says with a file that it runs, and runs until there is
#: another.
ECHO = {"score.py": "def run(paths):\n    return paths\n"}
HELD = {
    "score.py": """
import os, pathlib, time
def run(paths):
    here = pathlib.Path(paths[0])
    here.touch()
    while not (here.parent / "go").exists():
        time.sleep(0.005)
    return [str(os.getpid())]
"""
}


@dataclass
class Outcome:
    """One attempt's end, and its frame if it has one."""

    attempt_id: int
    place: tuple[str, int, int]
    rows: int
    succeeded: int
    failed: int
    process: int
    run_us: int
    failure: job_pb2.Failure | None


@dataclass
class AgentNode:
    """The node under test."""

    address: str
    storage_address: str
    storage: TinyStorage
    node: Node
    service: AgentService
    channel: Any

    def frame(self, job_id: str, outcome: Outcome) -> bytes:
        """The bytes that storage holds at the outcome's place."""
        segment, offset, length = outcome.place
        return bytes(self.storage.segments[job_id, segment][offset : offset + length])

    async def open(
        self,
        job_id: str,
        files: Mapping[str, str],
        processes: int = 0,
        *,
        epoch: int = 1,
        lease: float = 60.0,
        life: int = 0,
        acknowledging: bool = True,
        **spec: Any,
    ) -> Stream:
        """Opens a job whose source holds `files`, the entry script being score.py unless `spec` says otherwise.

        Or opens another stream to it.
        """
        spec.setdefault("entry_script", "score.py")
        spec.setdefault("output", "/nowhere")
        digest = self.storage.add_source(files)
        request = agent_pb2.RunMiniBatchesRequest(
            open=agent_pb2.OpenPool(
                job_id=job_id,
                spec=job_pb2.JobSpec(source_digest=digest, **spec),
                storage_address=self.storage_address,
                processes=processes,
                epoch=epoch,
                lease=lease,
                life=life,
            )
        )
        call = agent_pb2_grpc.AgentServiceStub(self.channel).RunMiniBatches()
        await call.write(request)
        return Stream(call, acknowledging=acknowledging)


@dataclass
class Stream:
    """The scheduler's end: sends mini-batches as credits allow, gathers what comes back, and acknowledges it."""

    call: Any
    acknowledging: bool = True
    #: Attempt, mini-batch and part of what the node held when the stream began; None before it has said so.
    held: list[tuple[int, int, int]] | None = None
    #: Responses with outcomes.
    told: int = 0
    credits: int = 0
    most_credits: int = 0
    phases: list[int] = field(default_factory=list)
    status: agent_pb2.PoolStatus = field(default_factory=agent_pb2.PoolStatus)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    ended: bool = False
    error: Exception | None = None

    def __post_init__(self) -> None:
        self._waiting: list[tuple[int, int, int, bytes, int, int]] = []
        self._writing = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def run(self, *paths: list[str], first: int = 1, affinities: list[int] | None = None, part: int = 0) -> None:
        """Dispatches mini-batches of these paths as credits come; attempt and mini-batch ids count from `first`."""
        slices = [{"kind": "files", "files": each} for each in paths]
        await self.run_slices(*slices, first=first, affinities=affinities, part=part)

    async def run_slices(
        self, *slices: SliceFields, first: int = 1, affinities: list[int] | None = None, part: int = 0
    ) -> None:
        """As `run`, of any slices."""
        for at, each in enumerate(slices):
            affinity = affinities[at] if affinities else 0
            self._waiting.append((first + at, first + at, 1, encode_slice(each), affinity, part))
        await self._dispatch()

    async def abort(self, *attempt_ids: int) -> None:
        await self.say(abort=attempt_ids)

    async def abort_all(self) -> None:
        """Waits until the agent has ended the stream."""
        await self.say(abort_all=True)
        await self.until_ended()

    async def acknowledge(self, count: int) -> None:
        await self.say(acknowledged=count)

    async def say(self, **fields: Any) -> None:
        """Writes one request."""
        async with self._writing:
            await self.call.write(agent_pb2.RunMiniBatchesRequest(**fields))

    async def cut(self) -> None:
        """Breaks the stream off; returns when it has ended on this side."""
        self.call.cancel()
        await self.until(lambda stream: stream.ended)

    async def until(self, holds: Callable[[Stream], object]) -> None:
        """Waits for what the stream brings. Errors: TimeoutError."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: holds(self))

    async def outcomes_of(self, count: int) -> dict[int, Outcome]:
        """All outcomes, once there are so many."""
        await self.until(lambda stream: len(stream.outcomes) >= count)
        return self.outcomes

    async def finish(self) -> None:
        """Says that no more will come, and waits until the agent has ended the stream."""
        await self.say(finish=True)
        await self.until_ended()

    async def until_ended(self) -> None:
        """Waits until the agent has ended the stream, and that well."""
        await self.until(lambda stream: stream.ended)
        assert self.error is None, self.error

    async def _dispatch(self) -> None:
        ready, self._waiting = self._waiting[: self.credits], self._waiting[self.credits :]
        if ready:
            self.credits -= len(ready)
            ids, numbers, tries, payloads, affinities, parts = zip(*ready, strict=True)
            dispatch = agent_pb2.Dispatch(
                attempt_id=ids, mini_batch=numbers, try_number=tries, payload=payloads, affinity=affinities, part=parts
            )
            await self.say(dispatch=dispatch)

    async def _read(self) -> None:
        try:
            async for response in self.call:
                self._take(response)
                await self._dispatch()
                if response.outcomes.attempt_id:
                    self.told += 1
                    if self.acknowledging:
                        await self.acknowledge(self.told)
                async with self._changed:
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 kept for the test that waits
            self.error = error
        except asyncio.CancelledError:
            self.error = RuntimeError("cancelled")
        self.ended = True
        async with self._changed:
            self._changed.notify_all()

    def _take(self, response: agent_pb2.RunMiniBatchesResponse) -> None:
        assert (self.held is None) == response.HasField("held"), "the first response, and only it, says what is held"
        if response.HasField("held"):
            held = response.held
            self.held = list(zip(held.attempt_id, held.mini_batch, held.part, strict=True))
        if response.HasField("pool"):
            self.status = response.pool
            self.phases.append(response.pool.phase)
        self.credits += response.credits
        self.most_credits = max(self.most_credits, self.credits)
        failures = {each.attempt_id: each.failure for each in response.outcomes.failures}
        told = response.outcomes
        for at, attempt_id in enumerate(told.attempt_id):
            assert attempt_id not in self.outcomes, "an attempt ends once"
            self.outcomes[attempt_id] = Outcome(
                attempt_id,
                (told.segment, told.offset[at], told.length[at]),
                told.rows[at],
                told.succeeded_items[at],
                told.failed_items[at],
                told.process[at],
                told.run_us[at],
                failures.get(attempt_id),
            )


@asynccontextmanager
async def agent_node(
    folder: Path, opened: Callable[[Entry], Datastore] = open_datastore, **settings: Any
) -> AsyncIterator[AgentNode]:
    """An agent with 2 slots, and its storage; `opened` makes a datastore of what that says of it. `settings` are
    Config's; no worker outlives it."""
    storage_address, address = f"unix:{folder}/storage", f"unix:{folder}/agent"
    storage = TinyStorage()  # type: ignore[abstract]
    storage_server = await storage.serve(storage_address)
    config = Config(
        **{"scheduler": "unix:/nowhere", "work": folder / "work", "slots": 2, "log_interval": 0.05, **settings}
    )
    artifacts = Artifacts(config.work / "artifacts", config.artifact_cache_bytes, config.artifact_timeout)
    fetching = Fetching()
    environments = Environments(config.work, Groups(config.work), config.environment_bytes, config.environment_timeout)
    supplier = Supplier(artifacts, environments, fetching)
    node = Node(config, Pools(config), Budget(config.unacknowledged_bytes), fetching, supplier)
    storages = Storages()
    files = Files(Cache(config.work / "files", config.file_cache_bytes), 0.0, opened)
    service = AgentService(config, node, storages, Scanning(files, config.parallel_scans))
    server, _ = serving.new_server(service.register, [SERVICE_NAME])
    server.add_insecure_port(address)
    await server.start()
    clock = asyncio.create_task(service.tick_forever())
    channel = calls.open_channel(address)
    try:
        yield AgentNode(address, storage_address, storage, node, service, channel)
    finally:
        await channel.close()
        await server.stop(1.0)
        await service.end_jobs()
        node.pools.kill_all()
        async with asyncio.timeout(PATIENCE):
            await node.pools.end_all()
        await environments.end()
        clock.cancel()
        await storages.close()
        await storage_server.stop(1.0)


def with_node(folder: Path, story: Callable[[AgentNode], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Plays a story with an agent."""

    async def play() -> None:
        async with agent_node(folder, **settings) as node:
            await story(node)

    asyncio.run(play())


async def until(holds: Callable[[], object]) -> None:
    """Waits for what other processes do. Errors: TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 a condition of other processes has no event
            await asyncio.sleep(0.01)
