"""A summary_only job on a node: its script writes to the job's own folder where that is seen, else through storage."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.entries import Entry, LocalFolder
from batchmesh.entry_messages import entry_to_proto
from batchmesh.v1 import job_pb2
from tests.support.agent_node import AgentNode, Stream, until, with_node

if TYPE_CHECKING:
    from pathlib import Path

SUMMARY_ONLY = job_pb2.OUTPUT_ACTION_SUMMARY_ONLY

#: Writes the name of each item, and a count of its runs, under --output; says where that is.
WRITES = """
import os, sys
output = sys.argv[sys.argv.index("--output") + 1]
assert output == os.environ["AZUREML_BI_OUTPUT_PATH"]

def run(paths):
    for path in paths:
        name = os.path.basename(path)
        os.makedirs(os.path.join(output, "deep"), exist_ok=True)
        with open(os.path.join(output, "deep", name), "w") as file:
            file.write(f"of {name}")
    with open(os.path.join(output, "count"), "a") as file:
        file.write("x")
    return paths

def shutdown():
    with open(os.path.join(output, "closed"), "w") as file:
        file.write("done")
"""


def marked(folder: Path, job_id: str = "job", content: str = "job") -> Path:
    """As storage leaves the output folder of a summary_only job."""
    folder.mkdir(parents=True)
    (folder / f".batchmesh-{job_id}-marker").write_text(content)
    return folder


async def opened(node: AgentNode, output: Path | str, script: str = WRITES, **more: Any) -> Stream:
    more = {"output_action": SUMMARY_ONLY, "output": str(output), **more}
    return await node.open("job", {"score.py": script}, 1, **more)


def sent(node: AgentNode) -> dict[str, str]:
    return {name: data.decode() for (_, name), data in node.storage.files.items()}


def test_with_the_marker_the_script_writes_to_the_jobs_own_folder(tmp_path: Path) -> None:
    output = marked(tmp_path / "output")

    async def story(node: AgentNode) -> None:
        stream = await opened(node, output)
        await stream.run(["/a"], ["/b"])
        await stream.outcomes_of(2)
        await stream.finish()
        assert sorted(os.listdir(output / "deep")) == ["a", "b"]
        assert (output / "closed").read_text() == "done"
        assert node.storage.files == {}

    with_node(tmp_path, story)


def test_a_local_datastore_is_its_folder(tmp_path: Path) -> None:
    marked(tmp_path / "store" / "inside")

    async def story(node: AgentNode) -> None:
        entry = Entry("here", LocalFolder(str(tmp_path / "store")))
        node.storage.datastores["here"] = entry_to_proto(entry)
        stream = await opened(node, "datastore://here/inside")
        await stream.run(["/a"])
        await stream.outcomes_of(1)
        await stream.finish()
        assert (tmp_path / "store" / "inside" / "deep" / "a").read_text() == "of a"
        assert node.storage.files == {}

    with_node(tmp_path, story)


@pytest.mark.parametrize(("job_id", "content"), [("other", "other"), ("job", "another mesh's job")])
def test_without_its_marker_what_the_script_writes_goes_to_storage_before_the_outcome_is_told(
    tmp_path: Path, job_id: str, content: str
) -> None:
    output = marked(tmp_path / "output", job_id, content)

    async def story(node: AgentNode) -> None:
        stream = await opened(node, output)
        await stream.run(["/a"])
        await stream.outcomes_of(1)
        assert sent(node) == {"deep/a": "of a", "count": "x"}
        await stream.run(["/b"], first=2)
        await stream.outcomes_of(2)
        assert sent(node) == {"deep/a": "of a", "deep/b": "of b", "count": "xx"}
        await stream.finish()
        assert sent(node)["closed"] == "done"
        assert os.listdir(output) == [f".batchmesh-{job_id}-marker"]
        await until(lambda: not list((node.node.config.work / "pools").glob("*")))

    with_node(tmp_path, story)


def test_what_the_script_removes_is_not_kept_and_large_files_come_whole(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "output = sys.argv[sys.argv.index('--output') + 1]\n"
        "def run(paths):\n"
        "    part, whole = os.path.join(output, 'part'), os.path.join(output, 'whole')\n"
        "    if paths == ['/a']:\n"
        "        open(part, 'wb').write(b'y' * 5_000_000)\n"
        "    else:\n"
        "        os.rename(part, whole)\n"
        "    return paths\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await opened(node, "/nowhere", script)
        await stream.run(["/a"])
        await stream.outcomes_of(1)
        await stream.run(["/b"], first=2)
        await stream.outcomes_of(2)
        assert node.storage.files == {("job", "whole"): b"y" * 5_000_000}
        await stream.finish()

    with_node(tmp_path, story)


def test_a_failed_attempt_sends_nothing(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "def run(paths):\n"
        "    open(os.path.join(sys.argv[2], 'half'), 'w').close()\n"
        "    raise ValueError\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await opened(node, "/nowhere", script)
        await stream.run(["/a"])
        outcome = (await stream.outcomes_of(1))[1]
        assert outcome.failure is not None
        assert node.storage.sent_files == 0
        await stream.abort_all()
        assert node.storage.sent_files == 0

    with_node(tmp_path, story)


def test_a_full_storage_is_waited_for_and_the_scheduler_is_told_why(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        node.storage.full = True
        stream = await opened(node, "/nowhere")
        await stream.run(["/a"])
        await stream.until(lambda stream: "full" in stream.status.held_up)
        assert not stream.outcomes
        node.storage.full = False
        await stream.outcomes_of(1)
        await stream.until(lambda stream: not stream.status.held_up)
        assert sent(node)["deep/a"] == "of a"
        await stream.finish()

    with_node(tmp_path, story)


def test_a_storage_that_takes_nothing_at_the_end_is_given_up(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        stream = await opened(node, "/nowhere")
        await stream.run(["/a"])
        await stream.outcomes_of(1)
        node.storage.full = True
        await stream.finish()
        assert "closed" not in sent(node)

    with_node(tmp_path, story, acknowledgement_timeout=0.1)


def test_a_name_that_storage_refuses_fails_the_attempt_with_the_name(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        node.storage.refused_names = {"deep/a"}
        stream = await opened(node, "/nowhere")
        await stream.run(["/a"])
        failure = (await stream.outcomes_of(1))[1].failure
        assert failure is not None
        assert failure.kind == job_pb2.Failure.KIND_BAD_RESULT
        assert "deep/a is no name" in failure.message
        await stream.abort_all()

    with_node(tmp_path, story)


def test_a_name_that_storage_refuses_costs_no_later_attempt(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        node.storage.refused_names = {"deep/a"}
        stream = await opened(node, "/nowhere")
        await stream.run(["/a"])
        assert (await stream.outcomes_of(1))[1].failure is not None
        await stream.run(["/b"], first=2)
        assert (await stream.outcomes_of(2))[2].failure is None
        assert sent(node) == {"deep/b": "of b", "count": "xx"}
        await stream.run(["/a"], first=3)
        assert (await stream.outcomes_of(3))[3].failure is not None, "it was written again"
        await stream.abort_all()

    with_node(tmp_path, story)


def test_a_name_that_is_no_text_fails_the_attempt(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "def run(paths):\n"
        "    open(os.path.join(os.fsencode(sys.argv[2]), b'\\xff'), 'w').close()\n"
        "    return paths\n"
    )

    async def story(node: AgentNode) -> None:
        stream = await opened(node, "/nowhere", script)
        await stream.run(["/a"])
        failure = (await stream.outcomes_of(1))[1].failure
        assert failure is not None
        assert "UTF-8" in failure.message
        await stream.abort_all()

    with_node(tmp_path, story)


def test_results_whose_files_are_on_their_way_are_held_and_told_on_the_next_stream(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        node.storage.takes.clear()
        stream = await opened(node, "/nowhere")
        await stream.run(["/a"])
        await until(lambda: (job := node.service.job("job")) and not job.open and not job.done)
        await stream.cut()
        again = await opened(node, "/nowhere")
        await again.until(lambda stream: stream.held is not None)
        assert again.held == [(1, 1, 0)]
        node.storage.takes.set()
        await again.outcomes_of(1)
        assert sent(node)["deep/a"] == "of a"
        await again.finish()

    with_node(tmp_path, story)
