"""ScanTable over real gRPC: what a node tells of tables, here and in a datastore, and how the scheduler asks for it."""

from __future__ import annotations

import asyncio
import io
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import grpc
import pytest

from batchmesh import calls
from batchmesh.agent.threads import on_a_thread
from batchmesh.data.places import Place
from batchmesh.data.plan_slices import Border, Grid, PlanSlice, TableFile, Wanted
from batchmesh.data.slices import UnreadableFile
from batchmesh.entries import AzureBlobContainer, Entry
from batchmesh.entry_messages import entry_to_proto
from batchmesh.errors import BatchmeshError, DatastoreFailed, NoEntry, Refused
from batchmesh.scan_messages import request_of, told_in
from batchmesh.scheduler.events import PlanningHeldUp
from batchmesh.scheduler.scanning import Scanning
from batchmesh.serving import new_server
from batchmesh.status import from_rpc_error
from batchmesh.v1 import agent_pb2, agent_pb2_grpc
from tests.support.agent_node import PATIENCE, AgentNode, agent_node, until
from tests.support.memory_datastore import MemoryDatastore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from batchmesh.data.plan_slices import Told
    from batchmesh.scheduler.scanning import JobScans

CSV = b'x,y\n1,"a\nb"\n2,c\n' + b"3,d\n" * 50
BLOBS = Entry("blobs", AzureBlobContainer("account", "container"))
REMOTE = "datastore://blobs/tables/a.csv"


def played(folder: Path, blobs: MemoryDatastore, story: Callable[[AgentNode], Coroutine[Any, Any, None]]) -> None:
    """With a node that reaches `blobs`."""

    async def play() -> None:
        async with agent_node(folder, lambda _: blobs) as node:
            node.storage.datastores["blobs"] = entry_to_proto(BLOBS)
            await story(node)

    asyncio.run(play())


async def told_of(node: AgentNode, file: TableFile, wanted: Wanted | PlanSlice) -> Told:
    request = request_of(file, wanted)
    request.workspace, request.storage_address = "default", node.storage_address
    try:
        response = await agent_pb2_grpc.AgentServiceStub(node.channel).ScanTable(request, timeout=PATIENCE)
    except grpc.RpcError as error:
        raise from_rpc_error(error, "The node") from None
    return told_in(response)


def blobs_with(content: bytes) -> MemoryDatastore:
    blobs = MemoryDatastore()
    blobs.put("tables/a.csv", content)
    return blobs


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_node_tells_of_a_table_wherever_it_lies(tmp_path: Path, where: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CSV)
    file = TableFile(REMOTE if where == "there" else str(path), "csv")

    async def story(node: AgentNode) -> None:
        told = await told_of(node, file, Wanted.LOOK)
        assert (told.size, told.stamp) == (len(CSV), "1" if where == "there" else "")
        assert told.looked is not None
        assert (told.looked.zipped, told.looked.delimiter, told.looked.body) == (False, ",", Place(4, 2, 1))
        columns = (await told_of(node, file, Wanted.COLUMNS)).columns
        assert [tuple(each) for each in columns] == [("x", "int64"), ("y", "string")]
        scanned = (await told_of(node, file, PlanSlice(10, 100, None, Grid(4, 40)))).scanned
        assert scanned is not None
        outside, inside = scanned.branches
        assert inside.starts == (Border.QUOTED,)
        assert (inside.rows, outside.rows) == (23, 23), "a quote behind text is text"
        assert [mark.offset for mark in inside.marks] == [12, 44, 84, 100]

    played(tmp_path, blobs_with(CSV), story)


def test_of_a_remote_table_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    class Counting(MemoryDatastore):
        read = 0

        def open(self, path: str) -> BinaryIO:
            outer = self

            class Counted(io.BytesIO):
                def readinto(self, buffer: Any) -> int:
                    count = super().readinto(buffer)
                    outer.read += count
                    return count

            return Counted(self._content(path))

    blobs = Counting()
    blobs.put("tables/a.csv", b"x,y\n" + b"1,2\n" * 5_000_000)

    async def story(node: AgentNode) -> None:
        file = TableFile(REMOTE, "csv")
        await told_of(node, file, Wanted.LOOK)
        assert blobs.read < 2**17
        before = blobs.read
        await told_of(node, file, PlanSlice(10_000_000, 10_001_000, None, Grid(4, 100)))
        assert blobs.read - before < 5 * 2**20
        assert blobs.downloads == []

    played(tmp_path, blobs, story)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (TableFile("/nowhere/a.csv", "csv"), "/nowhere/a.csv cannot be read: No such file or directory"),
        (TableFile("datastore://blobs/gone.csv", "csv"), "datastore://blobs/gone.csv cannot be read (there is none)"),
        (TableFile(REMOTE, "parquet"), f"{REMOTE} cannot be read: Parquet magic bytes not found"),
        (TableFile(REMOTE, "csv", size=7), f"{REMOTE} cannot be read: it is no longer what it was"),
        (TableFile(REMOTE, "csv", stamp="0"), f"{REMOTE} cannot be read: it is no longer what it was"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_its_name(tmp_path: Path, file: TableFile, sentence: str) -> None:
    async def story(node: AgentNode) -> None:
        wanted = Wanted.ROW_GROUPS if file.kind == "parquet" else Wanted.LOOK
        with pytest.raises(UnreadableFile) as caught:
            await told_of(node, file, wanted)
        assert str(caught.value).startswith(sentence)

    played(tmp_path, blobs_with(CSV), story)


def test_a_datastore_that_fails_or_is_not_known_is_no_fault_of_the_file(tmp_path: Path) -> None:
    class Failing(MemoryDatastore):
        def open(self, path: str) -> BinaryIO:
            raise DatastoreFailed("The datastore 'blobs' does not answer.")

    async def story(node: AgentNode) -> None:
        with pytest.raises(DatastoreFailed, match="does not answer"):
            await told_of(node, TableFile(REMOTE, "csv"), Wanted.LOOK)
        with pytest.raises(NoEntry):
            await told_of(node, TableFile("datastore://others/a.csv", "csv"), Wanted.LOOK)
        with pytest.raises(grpc.RpcError) as caught:
            await agent_pb2_grpc.AgentServiceStub(node.channel).ScanTable(agent_pb2.ScanTableRequest())
        assert isinstance(from_rpc_error(caught.value), Refused)

    played(tmp_path, Failing(), story)


def test_a_node_scans_two_tables_at_once_and_ends_a_scan_that_nobody_waits_for(tmp_path: Path) -> None:
    class Gated(MemoryDatastore):
        """Each read waits at a gate; `reading` are the reads that have come there."""

        def __init__(self) -> None:
            super().__init__()
            self.reading, self.go = 0, threading.Event()

        def open(self, path: str) -> BinaryIO:
            outer = self

            class Waiting(io.BytesIO):
                def readinto(self, buffer: Any) -> int:
                    outer.reading += 1
                    outer.go.wait(PATIENCE)
                    return super().readinto(memoryview(buffer)[:1])

            return Waiting(self._content(path))

    blobs = Gated()
    blobs.put("tables/a.csv", CSV)

    async def story(node: AgentNode) -> None:
        wanted = PlanSlice(4, len(CSV), Border.RECORD, Grid(4, 10))
        asked = [asyncio.create_task(told_of(node, TableFile(REMOTE, "csv"), wanted)) for _ in range(2)]
        await until(lambda: blobs.reading == 2)
        third = asyncio.create_task(told_of(node, TableFile(REMOTE, "csv"), wanted))
        for each in asked:
            each.cancel()
        await until(lambda: blobs.reading == 3)  # the third one's turn; those before wait at the gate yet
        blobs.go.set()
        assert (await third).scanned is not None
        assert blobs.reading < 2 + len(CSV), "those before have read no second time"

    played(tmp_path, blobs, story)


# ---- the scheduler's side ----


class Hanging(agent_pb2_grpc.AgentServiceServicer):
    """An agent that answers nothing; `asked` are the requests that came."""

    def __init__(self) -> None:
        self.asked = 0

    async def ScanTable(self, request: Any, context: Any) -> agent_pb2.ScanTableResponse:
        self.asked += 1
        await asyncio.sleep(PATIENCE)
        return agent_pb2.ScanTableResponse()


@dataclass
class FakeNode:
    node_id: str
    channel: Any
    draining: bool = False


@dataclass
class FakeNodes:
    """As nodes.Nodes, as far as it is asked."""

    nodes: list[FakeNode] = field(default_factory=list)

    def serving(self, compute_target: str) -> list[FakeNode]:
        return self.nodes if compute_target == "here" else []


@dataclass
class Asked:
    """A planning thread's question, and what has been told meanwhile of what holds it up."""

    scans: JobScans
    nodes: FakeNodes
    held_up: list[str]

    async def told(self, file: TableFile, wanted: Wanted | PlanSlice) -> Told:
        return await on_a_thread(lambda: self.scans(file, wanted).result(), "plan")

    async def told_or_stopped(self, file: TableFile, wanted: Wanted | PlanSlice) -> Told | str:
        def ask() -> Told | str:
            try:
                return self.scans(file, wanted).result()
            except CancelledError:
                return "stopped"

        return await on_a_thread(ask, "plan")


def asking(folder: Path, story: Callable[[AgentNode, Asked], Coroutine[Any, Any, None]], **blobs: Any) -> None:
    async def with_scheduler(node: AgentNode) -> None:
        held_up: list[str] = []

        def tell(event: Any) -> None:
            assert isinstance(event, PlanningHeldUp)
            held_up.append(event.why)

        nodes = FakeNodes()
        scanning = Scanning(nodes, tell, lambda: node.storage_address)  # type: ignore[arg-type]
        await story(node, Asked(scanning.of("job", "default", "here"), nodes, held_up))

    played(folder, blobs.get("blobs") or blobs_with(CSV), with_scheduler)


def test_planning_waits_for_a_node_and_says_so(tmp_path: Path) -> None:
    async def story(node: AgentNode, asked: Asked) -> None:
        told = asyncio.create_task(asked.told(TableFile(REMOTE, "csv"), Wanted.LOOK))
        await until(lambda: asked.held_up)
        asked.nodes.nodes.append(FakeNode("draining", node.channel, draining=True))
        asked.nodes.nodes.append(FakeNode("node", node.channel))
        assert (await told).size == len(CSV)
        assert asked.held_up == ["its input waits for a node that can look into it", ""]

    asking(tmp_path, story)


def test_what_a_lost_node_was_asked_another_one_is(tmp_path: Path) -> None:
    async def story(node: AgentNode, asked: Asked) -> None:
        hanging = Hanging()  # type: ignore[abstract]
        server, _ = new_server(lambda server: agent_pb2_grpc.add_AgentServiceServicer_to_server(hanging, server), [])
        server.add_insecure_port(f"unix:{tmp_path}/hanging")
        await server.start()
        lost = FakeNode("lost", calls.open_channel(f"unix:{tmp_path}/hanging"))
        asked.nodes.nodes.append(lost)
        told = asyncio.create_task(asked.told(TableFile(REMOTE, "csv"), Wanted.LOOK))
        await until(lambda: hanging.asked)
        asked.nodes.nodes[:] = [FakeNode("node", node.channel)]
        await lost.channel.close()
        assert (await told).size == len(CSV)
        assert asked.held_up[0].startswith("looking into the input failed and is tried again: The node was lost")
        assert asked.held_up[-1] == ""
        await server.stop(0)

    asking(tmp_path, story)


def test_a_datastore_that_fails_three_nodes_ends_planning_with_its_own_sentence(tmp_path: Path) -> None:
    class Failing(MemoryDatastore):
        opened = 0

        def open(self, path: str) -> BinaryIO:
            self.opened += 1
            raise DatastoreFailed("The datastore 'blobs' does not answer.")

    blobs = Failing()

    async def story(node: AgentNode, asked: Asked) -> None:
        asked.nodes.nodes.append(FakeNode("node", node.channel))
        with pytest.raises(BatchmeshError, match="'blobs' does not answer"):
            await asked.told(TableFile(REMOTE, "csv"), Wanted.LOOK)
        assert blobs.opened == 3

    asking(tmp_path, story, blobs=blobs)


def test_a_job_that_ends_waits_for_no_answer(tmp_path: Path) -> None:
    async def story(node: AgentNode, asked: Asked) -> None:
        told = asyncio.create_task(asked.told_or_stopped(TableFile(REMOTE, "csv"), Wanted.LOOK))
        await until(lambda: asked.held_up)
        asked.scans.stop()
        assert await told == "stopped"
        assert await asked.told_or_stopped(TableFile(REMOTE, "csv"), Wanted.LOOK) == "stopped"

    asking(tmp_path, story)
