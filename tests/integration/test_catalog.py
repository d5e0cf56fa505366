"""The catalog over real gRPC: what is registered stays, whoever dies, and no secret comes out where it should not."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import tarfile
import threading
from typing import TYPE_CHECKING

import grpc
import pytest

from batchmesh import errors
from batchmesh.calls import MAX_MESSAGE
from batchmesh.client import Client
from batchmesh.entries import AzureBlobContainer, Dataset, Entry, EntryKind, LocalFolder, Model
from batchmesh.entry_messages import entry_of, entry_to_proto
from tests.support.mesh import Mesh
from tests.support.storage import Storage, pb, refused, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh.catalog import Catalog

SECRET = "dmVyeS1zZWNyZXQtaW5kZWVk"
SIGNATURE = "very-secret-signature"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    yield from serving(tmp_path / "root")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Mesh(tmp_path_factory.mktemp("mesh"), agents=0) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def catalog(mesh: Mesh) -> Iterator[Catalog]:
    with Client(mesh.address) as client:
        yield client.catalog


def register(storage: Storage, number: int) -> None:
    entry = entry_to_proto(Entry("mine", Dataset("files", (f"/{number}",))))
    storage.stub.RegisterEntry(pb.RegisterEntryRequest(entry=entry, overwrite=True))


def listed(storage: Storage, name: str) -> list[Entry]:
    request = pb.ListEntriesRequest(kind=pb.ENTRY_KIND_DATASET, name=name)
    return [entry_of(entry) for page in storage.stub.ListEntries(request) for entry in page.entries]


def test_a_storage_that_is_killed_has_lost_nothing_that_it_had_acknowledged(storage: Storage) -> None:
    acknowledged = []

    def go_on() -> None:
        try:
            for number in range(1, 100_000):
                register(storage, number)
                acknowledged.append(number)
        except (grpc.RpcError, ValueError):  # its storage is gone, and its channel closed
            return

    registering = threading.Thread(target=go_on)
    registering.start()
    while len(acknowledged) < 20 and registering.is_alive():
        registering.join(0.01)
    storage.process.send_signal(signal.SIGKILL)
    registering.join(30)
    again = storage.killed_and_started_again()
    found = listed(again, "mine")
    assert [each.version for each in found] == list(range(1, len(found) + 1))
    assert [each.content for each in found] == [Dataset("files", (f"/{each.version}",)) for each in found]
    assert len(found) in (len(acknowledged), len(acknowledged) + 1)
    again.end()


def test_the_same_registered_by_many_at_once_is_one_version(storage: Storage) -> None:
    threads = [threading.Thread(target=register, args=(storage, 1)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [each.version for each in listed(storage, "mine")] == [1]


def test_a_long_listing_comes_in_pieces(storage: Storage) -> None:
    for number in range(40):
        entry = Entry(f"d{number:02}", Dataset("files", tuple(f"/{number}/{at:099}" for at in range(1000))))
        storage.stub.RegisterEntry(pb.RegisterEntryRequest(entry=entry_to_proto(entry)))
    pages = list(storage.stub.ListEntries(pb.ListEntriesRequest(kind=pb.ENTRY_KIND_DATASET)))
    assert sum(page.ByteSize() for page in pages) > MAX_MESSAGE * 0.9
    assert max(page.ByteSize() for page in pages) < 2**20
    assert [entry.name for page in pages for entry in page.entries] == [f"d{number:02}" for number in range(40)]


def test_the_artifact_of_a_model_is_never_trimmed(storage: Storage) -> None:
    data = b"model"
    digests = [hashlib.sha256(data * times).hexdigest() for times in (1, 2)]
    for times, digest in enumerate(digests, 1):
        storage.stub.WriteArtifact(iter([pb.WriteArtifactRequest(digest=digest, data=data * times)]))
    for content in (Model(digests[0]), Model(digests[1])):
        storage.stub.RegisterEntry(pb.RegisterEntryRequest(entry=entry_to_proto(Entry("m", content)), overwrite=True))
    for digest in digests:
        os.utime(storage.root / "artifacts" / digest[:2] / digest, (1, 1))
    assert storage.stub.TrimArtifacts(pb.TrimArtifactsRequest(limit=0)).deleted == 0
    assert list(storage.stub.FindArtifacts(pb.FindArtifactsRequest(digest=digests)).digest) == digests


def test_an_entry_that_does_not_say_what_it_is_is_refused(storage: Storage) -> None:
    nothing = pb.RegisterEntryRequest()
    nothing.entry.name = "mine"
    assert "does not say what it is" in refused(errors.BadEntry, storage.stub.RegisterEntry, nothing)
    no_kind = pb.GetEntryRequest(name="mine")
    assert "no kind of entry" in refused(errors.BadEntry, storage.stub.GetEntry, no_kind)


def test_a_secret_is_in_no_answer_but_one_and_in_no_log(mesh: Mesh, catalog: Catalog) -> None:
    keyed = AzureBlobContainer("sampledata", "account", account_key=SECRET)
    signed = AzureBlobContainer("sampledata", "account", sas_token=f"sv=1&sig={SIGNATURE}")
    said = []
    for name, content in (("keyed", keyed), ("signed", signed)):
        said.append(repr(catalog.register(Entry(name, content, workspace="secrets"))))
        for wrong in (AzureBlobContainer("b", "account", account_key=SECRET), LocalFolder("/other")):
            with pytest.raises(errors.Refused) as refusal:
                catalog.register(Entry(name, wrong, workspace="secrets"))
            said.append(str(refusal.value))
        shown = catalog.get(EntryKind.DATASTORE, name, workspace="secrets").content
        assert shown == AzureBlobContainer("sampledata", "account")
        assert catalog.credentials(name, "secrets").content == content
    said += map(repr, catalog.list(EntryKind.DATASTORE, "secrets"))
    logs = [path.read_text() for path in mesh.folder.glob("*.log")]
    assert logs
    for text in (*said, *logs):
        assert SECRET not in text
        assert SIGNATURE not in text
    holding = [path for path in mesh.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert [path.relative_to(mesh.folder).parts[:2] for path in holding] == [("storage", "catalog")]


def test_a_model_is_sent_once_for_its_content(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(bytes(100))
    first = catalog.register_model("net", tmp_path / "model", tags={"area": "digits"}, description="a net")
    os.utime(tmp_path / "model" / "weights", (1, 1))
    assert catalog.register_model("net", tmp_path / "model") == first
    (tmp_path / "model" / "weights").write_bytes(bytes(101))
    second = catalog.register_model("net", tmp_path / "model")
    assert (first.version, second.version) == (1, 2)
    assert first.content != second.content


def test_a_model_holds_the_file_or_what_lies_in_the_folder(mesh: Mesh, catalog: Catalog, tmp_path: Path) -> None:
    for name in ("model/b.onnx", "model/a/.config", "model/__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "model" / "link").symlink_to("b.onnx")
    folder = catalog.register_model("folder", tmp_path / "model").content
    file = catalog.register_model("file", tmp_path / "model" / "b.onnx").content
    assert isinstance(folder, Model)
    assert isinstance(file, Model)
    assert (folder.file, file.file) == ("", "b.onnx")
    assert names_in(mesh, folder) == ["a/.config", "b.onnx", "link"]
    assert names_in(mesh, file) == ["b.onnx"]


def names_in(mesh: Mesh, model: Model) -> list[str]:
    data = (mesh.folder / "storage" / "artifacts" / model.digest[:2] / model.digest).read_bytes()
    assert len(data) == model.size
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def test_a_link_to_a_folder_is_not_left_out_of_a_model_in_silence(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "model" / "a").mkdir(parents=True)
    (tmp_path / "model" / "a" / "x").touch()
    (tmp_path / "model" / "link").symlink_to("a")
    with pytest.raises(errors.InputRefused, match="model/link is a link to a folder"):
        catalog.register_model("linked", tmp_path / "model")


@pytest.mark.parametrize("path", ["none", "empty"])
def test_a_model_that_holds_nothing_is_refused(catalog: Catalog, tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.InputRefused, match=f"{path}.* to register as a model"):
        catalog.register_model("none", tmp_path / path)


def test_the_default_datastore_takes_files_at_once(mesh: Mesh, catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    datastore = catalog.datastore(workspace="team")
    datastore.upload(tmp_path / "mine", "a/b", overwrite=False)
    assert [found.path for found in datastore.find("")] == ["a/b"]
    assert datastore.local("a/b") == str(mesh.folder / "storage" / "datastore" / "team" / "a" / "b")


def test_paths_that_lead_nowhere_are_named(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    catalog.check_paths([str(tmp_path), f"{tmp_path}/*"])
    for path, kind in (
        (str(tmp_path / "none"), errors.InputRefused),
        ("datastore://workspaceblobstore/none", errors.InputRefused),
        ("datastore://none/", errors.NoEntry),
        ("datastore://none/..", errors.SpecRefused),
    ):
        with pytest.raises(kind, match="none"):
            catalog.check_paths([str(tmp_path), path])
