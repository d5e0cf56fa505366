"""What workers ask their agent for: real workers and a real agent; a datastore in memory, and a folder of this host."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.agent.fetching import Asker, Resolved
from batchmesh.agent.files import Files
from batchmesh.datastores.cache import Cache
from batchmesh.datastores.opening import open_datastore
from batchmesh.entries import AzureBlobContainer, Entry, LocalFolder
from batchmesh.entry_messages import entry_to_proto
from batchmesh.errors import DatastoreFailed
from batchmesh.v1 import job_pb2
from tests.support.agent_node import AgentNode, until, with_node
from tests.support.memory_datastore import MemoryDatastore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from batchmesh.datastores.store import Datastore

READ = {
    "score.py": """
import os
def run(paths):
    return [f"{os.path.basename(path)}={open(path).read()}" for path in paths]
"""
}
ROWS = {"score.py": "def run(rows):\n    return [f'{x}{y}' for x, y in zip(rows.x, rows.y)]\n"}


def with_blobs(
    folder: Path,
    story: Callable[[AgentNode, MemoryDatastore], Coroutine[Any, Any, None]],
    fresh: float = 60.0,
    **settings: Any,
) -> None:
    """Plays a story on a node that reaches `blobs`, a remote datastore, and `here`, a folder of this host."""
    blobs, here = MemoryDatastore(), folder / "here"
    here.mkdir()

    def opened(entry: Entry) -> Datastore:
        return blobs if entry.name == blobs.name else open_datastore(entry)

    async def play(node: AgentNode) -> None:
        for entry in (Entry("blobs", AzureBlobContainer("c", "a")), Entry("here", LocalFolder(str(here)))):
            node.storage.datastores[entry.name] = entry_to_proto(entry)
        cache = Cache(folder / "cache", 2**20)
        node.node.fetching.serve("datastore", Files(cache, 1.0, opened, fresh))
        await story(node, blobs)

    with_node(folder, play, **settings)


def references(*paths: str) -> list[str]:
    return [f"datastore://blobs/{path}" for path in paths]


def test_run_gets_local_files_under_their_own_names(tmp_path: Path) -> None:
    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        (tmp_path / "here/c.txt").write_text("three")
        blobs.put("in/a.txt", "one")
        blobs.put("in/b.txt", "two")
        stream = await node.open("job", READ, 1)
        await stream.run([*references("in/a.txt", "in/b.txt"), "datastore://here/c.txt"], references("in/a.txt"))
        outcomes = await stream.outcomes_of(2)
        assert node.frame("job", outcomes[1]).endswith(b"a.txt=one\nb.txt=two\nc.txt=three\n")
        assert node.frame("job", outcomes[2]).endswith(b"a.txt=one\n")
        assert sorted(blobs.downloads) == ["in/a.txt", "in/b.txt"]
        assert node.storage.asked_for_credentials == 2
        await stream.finish()

    with_blobs(tmp_path, story)


def test_a_storage_that_is_away_costs_no_file_of_a_datastore_that_is_known(tmp_path: Path) -> None:
    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        for name in "ab":
            blobs.put(name, name)
        stream = await node.open("job", READ, 1)
        await stream.run(references("a"))
        await stream.outcomes_of(1)
        asked, node.storage.away = node.storage.asked_for_credentials, True
        await stream.run(references("b"), first=2)
        assert (await stream.outcomes_of(2))[2].failure is None
        assert node.storage.asked_for_credentials > asked
        await stream.finish()

    with_blobs(tmp_path, story, fresh=0.0)


def test_many_workers_that_ask_at_once_share_a_fetch_and_lose_nothing_that_comes_meanwhile(tmp_path: Path) -> None:
    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        for name in "abc":
            blobs.put(name, name)
        stream = await node.open("job", READ, 4)
        blobs.gate.clear()
        await stream.run(*[references("a", "b")] * 4, *[references("c")] * 8)
        await until(lambda: (job := node.service.job("job")) and len(job.open) >= 8)
        assert not stream.outcomes
        blobs.gate.set()
        outcomes = await stream.outcomes_of(12)
        assert [each.failure for each in outcomes.values()] == [None] * 12
        assert sorted(blobs.downloads) == ["a", "b", "c"]
        await stream.finish()

    with_blobs(tmp_path, story, slots=4)


def test_the_files_of_the_next_mini_batch_are_fetched_while_this_one_runs(tmp_path: Path) -> None:
    script = {
        "score.py": """
import os, pathlib, time
def run(paths):
    while not (pathlib.Path(os.environ["SIGNS"]) / "go").exists():
        time.sleep(0.005)
    return [open(path).read() for path in paths]
"""
    }

    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        for name in "ab":
            blobs.put(name, name)
        stream = await node.open("job", script, 1, environment_variables={"SIGNS": str(tmp_path)})
        await stream.run(references("a"), references("b"))
        await until(lambda: sorted(blobs.downloads) == ["a", "b"])
        assert not stream.outcomes
        (tmp_path / "go").touch()
        outcomes = await stream.outcomes_of(2)
        assert [node.frame("job", outcomes[number])[-2:] for number in (1, 2)] == [b"a\n", b"b\n"]
        assert len(blobs.downloads) == 2
        await stream.finish()

    with_blobs(tmp_path, story)


def test_what_cannot_be_fetched_fails_its_mini_batch_alone_and_is_named(tmp_path: Path) -> None:
    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        blobs.put("a", "one")
        stream = await node.open("job", READ, 1)
        lost = "datastore://lost/x"
        await stream.run(references("a", "gone"), [lost], references("a"), ["datastore://here/d"])
        outcomes = await stream.outcomes_of(4)
        failures = {number: each.failure for number, each in outcomes.items() if each.failure}
        assert {each.kind for each in failures.values()} == {job_pb2.Failure.KIND_UNREADABLE_FILE}
        assert {number: each.message for number, each in failures.items()} == {
            1: "The items cannot be read: datastore://blobs/gone: there is nothing; check the path.",
            2: f"The items cannot be read: {lost} cannot be fetched: Workspace default has no datastore lost.",
            4: f"The items cannot be read: datastore://here/d cannot be fetched: there is no {tmp_path}/here/d",
        }
        await stream.finish()

    with_blobs(tmp_path, story)


def test_a_file_in_use_stays_and_goes_once_its_mini_batch_is_over(tmp_path: Path) -> None:
    script = {
        "score.py": """
import pathlib, time
def run(paths):
    signs = pathlib.Path(__import__("os").environ["SIGNS"])
    (signs / "running").write_text(paths[0])
    while not (signs / "go").exists():
        time.sleep(0.005)
    return [str(pathlib.Path(paths[0]).exists())]
"""
    }

    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        large = "x" * (2**20 - 64)
        for name in "ab":
            blobs.put(name, large)
        stream = await node.open("job", script, 1, environment_variables={"SIGNS": str(tmp_path)})
        await stream.run(references("a"))
        await until((tmp_path / "running").exists)
        other = await node.open("other", READ, 1)
        await other.run(references("b"))
        await other.outcomes_of(1)
        (tmp_path / "go").touch()
        assert node.frame("job", (await stream.outcomes_of(1))[1]).endswith(b"True\n")
        await other.run(references("b"), first=2)
        await other.outcomes_of(2)
        here = (tmp_path / "running").read_text()
        await until(lambda: not Path(here).exists())
        for each in (stream, other):
            await each.finish()

    with_blobs(tmp_path, story)


def test_a_table_is_read_as_it_was_planned_or_not_at_all(tmp_path: Path) -> None:
    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        text = "x,y\n1,a\n2,b\nno,c\n"
        blobs.put("t.csv", text)
        (table,) = blobs.find("t.csv")
        name = "datastore://blobs/t.csv"
        fields: dict[str, Any] = {
            "kind": "csv", "file": name, "stamp": table.stamp, "size": table.size, "offset": 4, "length": len(text) - 4,
            "line": 2, "row": 1, "rows": 3, "columns": [["x", "int64"], ["y", "string"]], "delimiter": ",",
        }  # fmt: skip
        stream = await node.open("job", ROWS, 1)
        await stream.run_slices(fields, {**fields, "part": [1, 1]})
        outcomes = await stream.outcomes_of(2)
        whole = node.frame("job", outcomes[1])
        assert b"1a\n2b\n" in whole
        assert f'"file": "{name}"'.encode() in whole or f'"file":"{name}"'.encode() in whole
        assert str(tmp_path).encode() not in whole
        assert b"2b\n" in node.frame("job", outcomes[2])
        blobs.put("u.csv", text)
        await stream.run_slices({**fields, "file": "datastore://blobs/u.csv"}, first=3)
        failure = (await stream.outcomes_of(3))[3].failure
        assert failure is not None
        assert failure.kind == job_pb2.Failure.KIND_READ_FAILED
        assert failure.message == (
            "The items cannot be read: datastore://blobs/u.csv cannot be fetched: it is no longer what it was when the "
            "job was planned; submit the job again"
        )
        await stream.finish()

    with_blobs(tmp_path, story)


def test_the_end_of_a_worker_names_the_reference_that_it_ran_alone(tmp_path: Path) -> None:
    script = {"score.py": "import os\ndef run(paths):\n    os._exit(3)\n"}

    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        blobs.put("in/crash.txt", "")
        stream = await node.open("job", script, 1)
        await stream.run(references("in/crash.txt"))
        failure = (await stream.outcomes_of(1))[1].failure
        assert failure is not None
        assert failure.message.endswith("during run() of datastore://blobs/in/crash.txt.")
        await stream.finish()

    with_blobs(tmp_path, story)


def test_a_worker_whose_fetch_overstays_is_ended_and_the_fetch_is_there_for_the_next_try(tmp_path: Path) -> None:
    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        blobs.put("slow", "late")
        blobs.gate.clear()
        stream = await node.open("job", READ, 1, task_overhead_timeout=0.3)
        await stream.run(references("slow"))
        failure = (await stream.outcomes_of(1))[1].failure
        assert failure is not None
        assert failure.message == "The items could not be read within task_overhead_timeout (0.3 seconds)."
        blobs.gate.set()
        await until(lambda: blobs.downloads)
        await stream.run(references("slow"), first=2)
        assert node.frame("job", (await stream.outcomes_of(2))[2]).endswith(b"slow=late\n")
        assert blobs.downloads == ["slow"]
        await stream.finish()

    with_blobs(tmp_path, story)


def test_what_init_asks_for_stays_as_long_as_the_worker_which_alone_may_ask(tmp_path: Path) -> None:
    script = {
        "score.py": """
import os
from concurrent.futures import ThreadPoolExecutor
from batchmesh.agent import asking
def init():
    global paths
    with ThreadPoolExecutor(4) as threads:
        paths = list(threads.map(lambda n: asking.ask([f"things://{n}"])[0], range(4)))
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, refusal("things://forked").encode())
        os._exit(0)
    paths.append(os.read(reading, 1000).decode())
def refusal(reference):
    try:
        asking.ask([reference])
    except asking.NotThere as error:
        return str(error)
def run(items):
    return [paths, refusal("nobody://x")]
"""
    }
    released: list[str] = []

    class Things:
        async def resolve(self, asker: Asker, reference: str, stamp: str) -> Resolved:
            return Resolved(reference.upper(), lambda: released.append(reference))

    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        node.node.fetching.serve("things", Things())
        stream = await node.open("job", script, 1)
        await stream.run(["/a"], ["/b"])
        outcomes = await stream.outcomes_of(2)
        frames = [node.frame("job", each).decode(errors="replace") for each in outcomes.values()]
        for words in (
            "'THINGS://0', 'THINGS://1', 'THINGS://2', 'THINGS://3'",
            "things://forked can only be had in the worker itself; ask there, and hand the path on",
            "nobody://x cannot be fetched: a node fetches only what begins with",
        ):
            assert all(words in each for each in frames)
        assert not released
        node.node.pools.kill_all()
        await until(lambda: len(released) == 4)
        await stream.finish()

    with_blobs(tmp_path, story)


@pytest.mark.parametrize(
    "trouble",
    [DatastoreFailed("datastore://blobs does not answer; try again later."), OSError(errno.ENOSPC, "No space left")],
    ids=["datastore-away", "disk-full"],
)
def test_what_is_no_fault_of_an_item_is_waited_for_and_named(tmp_path: Path, trouble: Exception) -> None:
    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        blobs.put("a", "one")
        blobs.trouble = trouble
        stream = await node.open("job", READ, 1)
        await stream.run(references("a"))
        await stream.until(lambda each: "datastore://blobs" in each.status.held_up)
        blobs.trouble = None
        outcomes = await stream.outcomes_of(1)
        assert outcomes[1].failure is None
        await stream.until(lambda each: not each.status.held_up)
        await stream.finish()

    with_blobs(tmp_path, story)


def test_a_fetch_that_takes_longer_than_reading_may_costs_no_try(tmp_path: Path) -> None:
    async def story(node: AgentNode, blobs: MemoryDatastore) -> None:
        blobs.put("a", "one")
        blobs.gate.clear()
        stream = await node.open("job", READ, 1, task_overhead_timeout=3.0)
        await stream.run(references("a"))
        await stream.until(lambda each: "it is still on its way" in each.status.held_up)
        blobs.gate.set()
        assert (await stream.outcomes_of(1))[1].failure is None
        assert blobs.downloads == ["a"]
        await stream.finish()

    with_blobs(tmp_path, story)
