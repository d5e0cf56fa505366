"""Outputs in a blob container, against Azurite: storage killed at any step, a container that is away, whole jobs."""

from __future__ import annotations

import json
import signal
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from batchmesh import errors
from batchmesh.client import Client
from batchmesh.entries import AzureBlobContainer, Entry
from batchmesh.entry_messages import entry_to_proto
from batchmesh.v1 import segment_pb2
from tests.support.azurite import ACCOUNT, KEY, Azurite
from tests.support.mesh import Mesh
from tests.support.outputs import header
from tests.support.storage import SUMMARY_ONLY, Frames, Storage, pb, refused, serving
from tests.support.story import final, run_job, succeeded, until, wait_for, write_files, write_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from azure.storage.blob import ContainerClient

OUTPUT = "datastore://blobs/results"
REPORT = ["results/job_report/processed_mini-batches.csv", "results/job_report/summary.json"]
NAMES = "import os\n\ndef run(mini_batch):\n    return [os.path.basename(path) for path in mini_batch]\n"
FILES = """
import os, sys

output = sys.argv[sys.argv.index("--output") + 1]

def run(mini_batch):
    for path in mini_batch:
        with open(os.path.join(output, os.path.basename(path)), "w") as file:
            file.write("done")
    return mini_batch
"""


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as azurite:
        yield azurite


@pytest.fixture
def container(azurite: Azurite, request: pytest.FixtureRequest) -> ContainerClient:
    name = "".join(each for each in request.node.name.lower() if each.isalnum())[-60:]
    return azurite.container(name)


def blobs_of(azurite: Azurite, container: ContainerClient, **fields: str) -> Entry:
    fields = {"endpoint": azurite.endpoint, **(fields or {"account_key": KEY})}
    return Entry("blobs", AzureBlobContainer(str(container.container_name), ACCOUNT, **fields))


@pytest.fixture
def storage(azurite: Azurite, container: ContainerClient, tmp_path: Path) -> Iterator[Storage]:
    for started in serving(tmp_path / "root"):
        register(started, blobs_of(azurite, container))
        yield started


def register(storage: Storage, entry: Entry) -> None:
    storage.stub.RegisterEntry(pb.RegisterEntryRequest(entry=entry_to_proto(entry), overwrite=True))


def names(container: ContainerClient) -> list[str]:
    return list(container.list_blob_names())


def large() -> Frames:
    """36 MB of results, so that a file of them comes in several blocks."""
    return Frames(*[[f"{number}" * 1000] * 4000 for number in range(9)])


def put(storage: Storage, frames: Frames) -> None:
    for at in range(0, len(frames.blocks), 2**20):
        storage.block(frames.blocks[at : at + 2**20], offset=at)


def commit(storage: Storage, places: segment_pb2.Places, **fields: Any) -> Any:
    about = json.dumps({"job_id": "j", "state": "SUCCEEDED", "batchmesh_version": "1"})
    return storage.commit(OUTPUT, places, summary_json=about, **fields)  # type: ignore[arg-type]


def at_its_beginning(container: ContainerClient, root: Path) -> bool:
    return any((root / "jobs/j/commit").glob("*"))


def with_all_of_it_aside(container: ContainerClient, root: Path) -> bool:
    manifest = root / "jobs/j/manifest.json"
    return manifest.exists() and json.loads(manifest.read_text())["staged"]


def with_its_report_there(container: ContainerClient, root: Path) -> bool:
    return REPORT[1] in names(container)


def with_its_file_there(container: ContainerClient, root: Path) -> bool:
    return "results/out.txt" in names(container)


MOMENTS = [at_its_beginning, with_all_of_it_aside, with_its_report_there, with_its_file_there]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_commit_killed_on_its_way_is_redone_and_never_half_visible(
    storage: Storage, container: ContainerClient, moment: Callable[[ContainerClient, Path], bool]
) -> None:
    frames = large()
    container.upload_blob("results/old", b"old")
    storage.reserve(OUTPUT, overwrite=True)
    put(storage, frames)
    told: list[Any] = []

    def ask() -> None:
        try:
            told.append(commit(storage, frames.places))
        except (grpc.RpcError, ValueError):
            told.append(None)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: told or moment(container, storage.root), "the moment")
    storage.end(signal.SIGKILL)
    thread.join(20)
    again = Storage(storage.root)
    answer = commit(again, frames.places)
    assert answer.manifest.output_path == f"{OUTPUT}/out.txt"
    assert told in ([None], [answer])
    assert names(container) == [*REPORT, "results/out.txt"]
    assert container.get_blob_client("results/out.txt").get_blob_properties().size == answer.manifest.bytes
    read = again.stub.ReadOutput(pb.ReadOutputRequest(job_id="j"))
    assert sum(len(each.data) for each in read) == answer.manifest.bytes
    assert commit(again, frames.places) == answer
    assert not (again.root / "jobs/j/output").exists()
    again.end()


def test_files_of_a_script_are_uploaded_and_copied(
    storage: Storage, container: ContainerClient, tmp_path: Path
) -> None:
    storage.reserve(OUTPUT, output_action=SUMMARY_ONLY)
    for name in ("a", "deep/b"):
        first = pb.WriteOutputFileRequest(job_id="j", name=name)
        storage.stub.WriteOutputFile(iter([first, pb.WriteOutputFileRequest(data=name.encode(), complete=True)]))
    assert commit(storage, segment_pb2.Places(), output_action=SUMMARY_ONLY).manifest.output_path == OUTPUT
    assert names(container) == ["results/a", "results/deep/b", *REPORT]
    storage.reserve(tmp_path / "copy", job="k", output_action=SUMMARY_ONLY)
    copy = pb.CopyOutputRequest(header=header(tmp_path / "copy", "k", "1", summary_only=True), from_job_id="j")
    storage.stub.CopyOutput(copy)
    assert (tmp_path / "copy" / "deep" / "b").read_text() == "deep/b"
    container.upload_blob("results/a", b"another", overwrite=True)
    storage.reserve(tmp_path / "late", job="l", output_action=SUMMARY_ONLY)
    late = pb.CopyOutputRequest(header=header(tmp_path / "late", "l", "1", summary_only=True), from_job_id="j")
    refused(errors.NoOutput, storage.stub.CopyOutput, late)


def test_a_container_that_may_not_be_written_is_refused_in_one_sentence(
    azurite: Azurite, storage: Storage, container: ContainerClient
) -> None:
    register(
        storage,
        blobs_of(azurite, container, sas_token=azurite.sas(str(container.container_name), read=True, list=True)),
    )
    sentence = refused(errors.OutputUnwritable, storage.reserve, OUTPUT)
    assert sentence.startswith(f"The output {OUTPUT} cannot be written: ")
    assert "sig=" not in sentence
    register(storage, Entry("blobs", AzureBlobContainer("none", ACCOUNT, endpoint=azurite.endpoint, account_key=KEY)))
    assert "no such container" in refused(errors.OutputUnwritable, storage.reserve, OUTPUT)
    away = AzureBlobContainer("none", ACCOUNT, endpoint=f"http://127.0.0.1:1/{ACCOUNT}", account_key=KEY)
    register(storage, Entry("blobs", away))
    assert "does not answer" in refused(errors.OutputUnwritable, storage.reserve, OUTPUT)


def test_a_pipeline_goes_by_way_of_a_container(azurite: Azurite, container: ContainerClient, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 6)
    with Mesh(tmp_path) as mesh, Client(mesh.address) as client:
        client.catalog.register(blobs_of(azurite, container))
        script = write_script(tmp_path, FILES, "files.py")
        job = run_job(mesh.address, script, tmp_path / "in", OUTPUT, output_action="summary_only", mini_batch_size=2)
        assert succeeded(job).output_path == OUTPUT
        script = write_script(tmp_path, NAMES, "names.py")
        job = succeeded(run_job(mesh.address, script, OUTPUT, "datastore://blobs/names"))
        assert job.output_path == "datastore://blobs/names/parallel_run_step.txt"
        read = b"".join(client.read_output(job.job_id)).decode().splitlines()
        assert read == [f"item-{number:05}.txt" for number in range(6)]


def test_a_container_that_is_away_at_the_commit_is_waited_for(tmp_path: Path) -> None:
    write_files(tmp_path / "in", 3)
    gate = tmp_path / "gate"
    script = write_script(
        tmp_path, f"import os, time\n\ndef run(batch):\n    while not os.path.exists({str(gate)!r}):\n"
        "        time.sleep(0.01)\n    return [os.path.basename(path) for path in batch]\n"
    )  # fmt: skip
    azurite = Azurite(tmp_path / "blobs")
    with azurite, Mesh(tmp_path) as mesh, Client(mesh.address) as client:
        container = azurite.container("away")
        client.catalog.register(blobs_of(azurite, container))
        job = client.submit(script, [str(tmp_path / "in")], OUTPUT)
        azurite.__exit__(None, None, None)
        gate.touch()
        held = until(client, job.job_id, lambda job: "the output cannot be written yet" in job.waiting_for, 120)
        assert "does not answer" in held.waiting_for
        azurite.__enter__()
        succeeded(final(client, job.job_id, 120))
        assert names(container) == [*REPORT, "results/parallel_run_step.txt"]
