"""A scheduler's dispatcher on the test's own event loop, over a real database, and agents of a test's own making.

They say what the test has them say, over real gRPC. Storage is a stub that publishes at once.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from batchmesh.scheduler import tables
from batchmesh.scheduler.anteroom import Anteroom
from batchmesh.scheduler.config import Config
from batchmesh.scheduler.dispatcher import Dispatcher
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import State
from batchmesh.scheduler.recovery import recover
from batchmesh.scheduler.reusing import Reusing
from batchmesh.scheduler.store import Store
from batchmesh.serving import new_server
from batchmesh.v1 import agent_pb2, agent_pb2_grpc, job_pb2, scheduler_pb2, storage_pb2
from batchmesh.v1.agent_pb2 import PoolStatus
from batchmesh.v1.agent_pb2 import RunMiniBatchesRequest as Request
from batchmesh.v1.agent_pb2 import RunMiniBatchesResponse as Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from concurrent.futures import Future
    from pathlib import Path

    from batchmesh.scheduler.jobs import JobRecord
    from batchmesh.scheduler.model import JobState
    from batchmesh.scheduler.publisher import Publisher
    from batchmesh.scheduler.store import Database
    from batchmesh.scheduler.tables import JobRow

_Answer = TypeVar("_Answer")

#: Seconds within which any story ends.
PATIENCE = 30.0
#: Items of each mini-batch.
ITEMS = 4


@dataclass(eq=False)
class Line:
    """One stream as its agent sees it."""

    opened: agent_pb2.OpenPool
    #: Attempt to the mini-batch (or part of it) that it is of, as it was sent.
    sent: dict[int, tuple[int, int]] = field(default_factory=dict)
    aborted: list[int] = field(default_factory=list)
    acknowledged: int = 0
    #: It was told to finish or to abort all.
    closed: bool = False
    _says: asyncio.Queue[Response | None] = field(default_factory=asyncio.Queue)

    def say(self, response: Response) -> None:
        self._says.put_nowait(response)

    def hold(self, *held: tuple[int, int]) -> None:
        """The first word: these (attempt, mini-batch) are held."""
        ids, indexes = ([each[at] for each in held] for at in (0, 1))
        self.say(Response(held=agent_pb2.Held(attempt_id=ids, mini_batch=indexes, part=[0] * len(ids))))

    def ready(self, credits_: int, workers: int = 1) -> None:
        self.say(Response(pool=PoolStatus(phase=PoolStatus.PHASE_READY, workers=workers), credits=credits_))

    def succeeded(self, *attempts: int) -> None:
        self.say(Response(outcomes=outcomes(*attempts)))

    def failed(self, attempt: int, kind: job_pb2.Failure.Kind.ValueType = job_pb2.Failure.KIND_RUN_RAISED) -> None:
        told = outcomes(attempt)
        told.failures.add(attempt_id=attempt, failure=job_pb2.Failure(kind=kind, message="no"))
        self.say(Response(outcomes=told))

    def end(self) -> None:
        self._says.put_nowait(None)

    async def said(self) -> AsyncIterator[Response]:
        while (response := await self._says.get()) is not None:
            yield response

    def take(self, request: Request) -> None:
        given = request.dispatch
        parts = given.part or [0] * len(given.attempt_id)
        columns = zip(given.attempt_id, given.mini_batch, parts, strict=True)
        self.sent.update({attempt: (index, part) for attempt, index, part in columns})
        self.aborted += request.abort
        self.acknowledged = max(self.acknowledged, request.acknowledged)
        self.closed = self.closed or request.finish or request.abort_all
        if self.closed:
            self.end()


def outcomes(*attempts: int) -> agent_pb2.Outcomes:
    """Each has given a row for each of its items."""
    ones, many = [1] * len(attempts), [ITEMS] * len(attempts)
    return agent_pb2.Outcomes(
        attempt_id=attempts,
        segment="s",
        offset=ones,
        length=ones,
        rows=many,
        succeeded_items=many,
        failed_items=[0] * len(attempts),
        process=ones,
        started_us=ones,
        run_us=ones,
        elapsed_us=ones,
    )


class ScriptedAgent(agent_pb2_grpc.AgentServiceServicer):
    """A node whose streams are the test's."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.lines: list[Line] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def RunMiniBatches(self, request_iterator: Any, context: Any) -> AsyncIterator[Response]:
        requests = aiter(request_iterator)
        line = Line((await anext(requests)).open)
        self.lines.append(line)
        task = asyncio.create_task(self._hear(line, requests))
        self._tasks.add(task)
        try:
            async for response in line.said():
                yield response
        finally:
            task.cancel()

    @staticmethod
    async def _hear(line: Line, requests: AsyncIterator[Request]) -> None:
        async for request in requests:
            line.take(request)

    async def line(self, number: int = -1) -> Line:
        """The stream of that number, once it has come; the first one unless told."""
        number = max(0, number)
        await until(lambda: len(self.lines) > number, f"stream {number} to {self.address}")
        return self.lines[number]


class WatchedStore(Store):
    """Counts the questions that it was asked."""

    questions = 0

    def read(self, question: Callable[[Database], _Answer]) -> Future[_Answer]:
        self.questions += 1
        return super().read(question)


class Publishing:
    """A storage that publishes whatever it is told to."""

    def __init__(self) -> None:
        self.summaries: list[str] = []

    async def commit(self, record: JobRecord, summary_json: str, report_only: bool) -> Any:
        self.summaries.append(summary_json)
        return storage_pb2.CommitOutputResponse(manifest=storage_pb2.Manifest(output_path="/out/rows.txt"))


@dataclass
class Scene:
    """The dispatcher, its database and its agents."""

    config: Config
    dispatcher: Dispatcher
    anteroom: Anteroom
    machine: Machine
    store: WatchedStore
    publishing: Publishing
    agents: dict[str, ScriptedAgent] = field(default_factory=dict)
    #: Index, first item, level and success of each outcome in the database when all had ended.
    outcomes: list[tuple[int, int, int, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record = self.dispatcher.active["job-1"].record

    @property
    def state(self) -> JobState:
        """What the Machine knows of the job while it runs."""
        assert self.record.state is not None, "it has ended"
        return self.record.state

    async def beat(self, node_id: str, **said: Any) -> None:
        """A heartbeat of that node."""
        request = scheduler_pb2.HeartbeatRequest(node_id=node_id, address=self.agents[node_id].address, slots=1, **said)
        await self.dispatcher.nodes.beat(request)

    async def ended(self) -> State:
        """The state in which the job has ended."""
        await until(lambda: self.record.is_final, "the end of the job")
        return State(self.record.row.state)

    def rows(self) -> list[tuple[int, int, int, bool]]:
        """Index, first item, level and success of each outcome in the database."""
        sql = "SELECT idx, first, level, failure IS NULL FROM outcomes ORDER BY idx, first"
        return self.store.read(lambda db: [(*row[:3], bool(row[3])) for row in db.execute(sql)]).result()


async def until(condition: Callable[[], object], what: str) -> None:
    async def told() -> None:
        while not condition():  # noqa: ASYNC110 it is a condition of several parties
            await asyncio.sleep(0.005)

    try:
        await asyncio.wait_for(told(), PATIENCE)
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {PATIENCE:g} s") from None


def play(
    folder: Path,
    story: Callable[[Scene], Awaitable[None]],
    *,
    mini_batches: int,
    agents: str = "ab",
    durable_delay: float = 0.0,
    config: dict[str, Any] | None = None,
    before: Callable[[Store, JobRow], None] | None = None,
    **spec: Any,
) -> Scene:
    """Plays a story about one job, with a node for each letter of `agents`; a mistake of the scheduler's fails it.

    The scheduler finds the job in its database, in which `before` has done what it likes.
    """
    spec = {"run_max_try": 1, "error_threshold": -1, "allowed_failed_count": -1, "isolate_failures": True, **spec}

    async def whole() -> Scene:
        with closing(WatchedStore(folder / "state", durable_delay)) as store:
            row = _planned(store, job_pb2.JobSpec(**spec), mini_batches)
            if before is not None:
                before(store, row)
            return await told(store)

    async def told(store: WatchedStore) -> Scene:
        async with _scene(folder, store, agents, config or {}) as scene:
            telling = asyncio.ensure_future(story(scene))
            await asyncio.wait(
                [telling, scene.dispatcher.failed], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE
            )
            if scene.dispatcher.failed.done():
                scene.dispatcher.failed.result()
            assert telling.done(), f"the story had no end within {PATIENCE:g} s"
            telling.result()
            scene.outcomes = scene.rows()
        return scene

    return asyncio.run(whole())


@asynccontextmanager
async def _scene(folder: Path, store: WatchedStore, names: str, settings: dict[str, Any]) -> AsyncIterator[Scene]:
    config = Config(listen="", storage="", state=folder / "state", **settings)
    machine, publishing = Machine(1, config.lease), Publishing()
    publisher = cast("Publisher", publishing)
    dispatcher = Dispatcher(config, machine, store, publisher, 1)
    anteroom = Anteroom(store, dispatcher, publisher, Reusing(store, publisher, None))
    await recover(store, dispatcher, publisher, anteroom, lost=False)
    scene = Scene(config, dispatcher, anteroom, machine, store, publishing)
    servers = [await _serve(scene, folder, name) for name in names]
    ticking = asyncio.create_task(dispatcher.tick())
    try:
        yield scene
    finally:
        ticking.cancel()
        await dispatcher.close()
        for server in servers:
            await server.stop(None)


def _planned(store: Store, spec: job_pb2.JobSpec, count: int) -> JobRow:
    spec.progress_update_timeout, spec.first_task_creation_timeout = 60.0, 60.0
    spec.allowed_failed_percent = 100.0
    store.write(tables.add_job("job-1", spec.SerializeToString(), 1, 100.0)).result()
    row = store.read(lambda db: tables.find_job(db, "job-1")).result()
    assert row is not None
    row.planned, row.planned_items, row.planning_ended = count, count * ITEMS, 1
    payload = b'{"kind":"files","files":["a","b","c","d"]}'
    plan = [(row.number, index, ITEMS, 0, payload, None) for index in range(count)]
    store.write(tables.add_plan(row, plan, [])).result()
    return row


async def _serve(scene: Scene, folder: Path, name: str) -> Any:
    agent = scene.agents[name] = ScriptedAgent(f"unix:{folder / name}")  # type: ignore[abstract]
    server, _ = new_server(lambda server: agent_pb2_grpc.add_AgentServiceServicer_to_server(agent, server), [])
    server.add_insecure_port(agent.address)
    await server.start()
    return server
