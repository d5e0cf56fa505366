"""Blob containers as datastores, against Azurite: every way to open one, and what each refusal says."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmesh.client import Client
from batchmesh.datastores.azure_blob import AzureBlobDatastore
from batchmesh.entries import AzureBlobContainer, Dataset, Entry
from batchmesh.errors import BadEntry, BatchmeshError, DatastoreFailed, InputRefused, PathTaken
from tests.support.azurite import ACCOUNT, KEY, Azurite
from tests.support.mesh import Mesh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMES = ["a/.hidden", "a/1.txt", "a/2.txt", "a/c/3.png", "a-b.txt", "é/ü ?#.txt"]
VISIBLE = ["a-b.txt", "a/1.txt", "a/2.txt", "a/c/3.png", "é/ü ?#.txt"]
WRONG_KEY = "d3Jvbmcta2V5"


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as azurite:
        for name, public in (("public", True), ("private", False)):
            container = azurite.container(name, public=public)
            for blob in NAMES:
                container.upload_blob(blob, blob.encode())
        yield azurite


@pytest.fixture
def opened(azurite: Azurite) -> Callable[..., AzureBlobDatastore]:
    """Opens a container; by default the private one, with the account's key."""

    def open_one(container: str = "private", page: int = 5000, **how: Any) -> AzureBlobDatastore:
        fields = {"endpoint": azurite.endpoint, **(how or {"account_key": KEY})}
        return AzureBlobDatastore("blobs", AzureBlobContainer(container, ACCOUNT, **fields), retries=0, page=page)

    return open_one


def names(datastore: AzureBlobDatastore, path: str, after: str | None = None) -> list[str]:
    return [found.path for found in datastore.find(path, after)]


def test_a_key_a_sas_or_nothing_opens_a_container(opened: Callable[..., AzureBlobDatastore]) -> None:
    token = Azurite.sas("private", read=True, list=True)
    for datastore in (
        opened(account_key=KEY),
        opened(sas_token=token),
        opened(sas_token=f"?{token}"),
        opened("public", account_key=""),
    ):
        assert names(datastore, "") == VISIBLE
        with datastore.open("é/ü ?#.txt") as file:
            assert file.read().decode() == "é/ü ?#.txt"


@pytest.mark.parametrize(
    ("path", "means"),
    [
        ("a", ["a/1.txt", "a/2.txt", "a/c/3.png"]),
        ("a/", ["a/1.txt", "a/2.txt", "a/c/3.png"]),
        ("a/1.txt", ["a/1.txt"]),
        ("a/?.txt", ["a/1.txt", "a/2.txt"]),
        ("*.txt", ["a-b.txt"]),
        ("**/*.txt", ["a-b.txt", "a/1.txt", "a/2.txt", "é/ü ?#.txt"]),
        ("a/**/*.png", ["a/c/3.png"]),
        ("é/ü ?#.txt", ["é/ü ?#.txt"]),
    ],
)
def test_a_path_means_what_it_means_in_a_folder(
    opened: Callable[..., AzureBlobDatastore], path: str, means: list[str]
) -> None:
    assert names(opened(), path) == means
    assert names(opened(), path, after=means[0]) == means[1:]


@pytest.mark.parametrize("path", ["none", "a/1", "a/1.txt/", "*.png", "a/.none"])
def test_a_path_that_means_nothing_is_named(opened: Callable[..., AzureBlobDatastore], path: str) -> None:
    with pytest.raises(InputRefused, match="datastore://blobs/"):
        names(opened(), path)


def test_a_listing_of_several_pages_is_whole_and_goes_on_where_it_was(
    azurite: Azurite, opened: Callable[..., AzureBlobDatastore]
) -> None:
    container = azurite.container("many")
    wanted = [f"d/{number:03}" for number in range(105)]
    for name in wanted:
        container.upload_blob(name, b"")
    assert names(opened("many", page=20), "d") == wanted
    assert names(opened("many", page=20), "d/*9", after="d/053") == wanted[59::10]


def test_what_is_found_has_its_size_and_a_stamp_that_changes_with_it(
    azurite: Azurite, opened: Callable[..., AzureBlobDatastore]
) -> None:
    container = azurite.container("stamps")
    container.upload_blob("x", b"1")
    (first,) = opened("stamps").find("")
    assert [first] == list(opened("stamps").find("x"))
    container.upload_blob("x", b"2", overwrite=True)
    (second,) = opened("stamps").find("x")
    assert (first.size, first.stamp != second.stamp) == (1, True)


def test_the_report_of_an_earlier_job_is_no_input(azurite: Azurite, opened: Callable[..., AzureBlobDatastore]) -> None:
    container = azurite.container("outputs")
    summary = b'{"job_id": "job-1", "state": "SUCCEEDED", "batchmesh_version": "1"}'
    for folder, content in (("ours", summary), ("theirs", b"{}")):
        container.upload_blob(f"{folder}/rows.csv", b"")
        container.upload_blob(f"{folder}/job_report/summary.json", content)
    assert names(opened("outputs"), "ours") == ["ours/rows.csv"]
    assert names(opened("outputs"), "theirs/") == ["theirs/job_report/summary.json", "theirs/rows.csv"]


def test_what_remembers_a_folder_is_no_file(azurite: Azurite, opened: Callable[..., AzureBlobDatastore]) -> None:
    container = azurite.container("folders")
    container.upload_blob("a/", b"")
    container.upload_blob("a/b", b"", metadata={"hdi_isfolder": "true"})
    container.upload_blob("a/b/c", b"")
    assert names(opened("folders"), "a") == names(opened("folders"), "a/b") == ["a/b/c"]


def test_a_blob_that_no_path_can_name_is_not_left_out_in_silence(
    azurite: Azurite, opened: Callable[..., AzureBlobDatastore]
) -> None:
    azurite.container("odd").upload_blob("a//b", b"")
    with pytest.raises(InputRefused, match="a//b"):
        names(opened("odd"), "")


def test_a_large_file_goes_up_in_blocks_and_comes_back_as_it_was(
    opened: Callable[..., AzureBlobDatastore], tmp_path: Path
) -> None:
    data = os.urandom(21 * 2**20 + 7)
    (tmp_path / "large").write_bytes(data)
    opened().upload(tmp_path / "large", "large/file", overwrite=False)
    with pytest.raises(PathTaken, match="datastore://blobs/large/file is there already"):
        opened().upload(tmp_path / "large", "large/file", overwrite=False)
    opened().upload(tmp_path / "large", "large/file", overwrite=True)
    opened().download("large/file", tmp_path / "back")
    assert hashlib.sha256((tmp_path / "back").read_bytes()).digest() == hashlib.sha256(data).digest()
    with opened().open("large/file") as file:
        file.seek(-9, os.SEEK_END)
        assert (file.tell(), file.read()) == (len(data) - 9, data[-9:])
        file.seek(5 * 2**20)
        assert file.read(10 * 2**20) == data[5 * 2**20 : 15 * 2**20]
        file.seek(0)
        assert file.read() == data
    for _ in range(2):
        opened().delete("large/file")
    assert "large/file" not in names(opened(), "")


def test_an_empty_file_is_one(opened: Callable[..., AzureBlobDatastore], tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    opened().upload(tmp_path / "empty", "empty", overwrite=True)
    opened().download("empty", tmp_path / "back")
    with opened().open("empty") as file:
        assert file.read() == (tmp_path / "back").read_bytes() == b""
    opened().delete("empty")


def test_parquet_is_read_by_ranges(opened: Callable[..., AzureBlobDatastore], tmp_path: Path) -> None:
    table = pa.table({"id": range(1000)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    opened().upload(tmp_path / "t.parquet", "t.parquet", overwrite=True)
    with opened().open("t.parquet") as file:
        assert pq.ParquetFile(file).read_row_group(7).column("id").to_pylist() == list(range(700, 800))
    opened().delete("t.parquet")


def test_a_blob_that_changes_while_it_is_read_is_told_apart(
    azurite: Azurite, opened: Callable[..., AzureBlobDatastore]
) -> None:
    container = azurite.container("changing")
    container.upload_blob("x", bytes(3 * 2**20))
    with opened("changing").open("x") as file:
        assert file.read(1) == b"\0"
        container.upload_blob("x", bytes(3 * 2**20), overwrite=True)
        file.seek(2 * 2**20)
        with pytest.raises(InputRefused, match="has changed while it was read"):
            file.read(1)


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ({"account_key": WRONG_KEY}, BadEntry, "refuses its account key"),
        ({"sas_token": "{appends}"}, BadEntry, "refuses its SAS token"),
        ({"sas_token": "{forged}"}, BadEntry, "refuses its SAS token"),
        ({"account_key": ""}, BadEntry, "refuses whoever has neither key nor SAS token"),
        ({"container": "none", "account_key": KEY}, BadEntry, "no such container"),
        ({"account_key": KEY, "endpoint": "http://127.0.0.1:1/x"}, DatastoreFailed, "does not answer at 127.0.0.1:1"),
    ],
)
@pytest.mark.parametrize("act", ["find", "find below", "find a glob", "open", "download", "upload", "delete"])
def test_each_refusal_is_one_sentence_that_names_the_datastore_and_no_secret(
    opened: Callable[..., AzureBlobDatastore],
    tmp_path: Path,
    how: dict[str, str],
    kind: type[BatchmeshError],
    said: str,
    act: str,
) -> None:
    token = Azurite.sas("private", add=True)
    tokens = {"{appends}": token, "{forged}": token.replace("sig=", "sig=forged")}
    how = {name: tokens.get(value, value) for name, value in how.items()}
    datastore = opened(**how)
    (tmp_path / "x").write_text("x")
    acts: dict[str, Callable[[], object]] = {
        "find": lambda: names(datastore, ""),
        "find below": lambda: names(datastore, "a"),
        "find a glob": lambda: names(datastore, "a/*.txt"),
        "open": lambda: datastore.open("a/1.txt"),
        "download": lambda: datastore.download("a/1.txt", tmp_path / "back"),
        "upload": lambda: datastore.upload(tmp_path / "x", "x", overwrite=True),
        "delete": lambda: datastore.delete("a/1.txt"),
    }
    with pytest.raises(kind) as refusal:
        acts[act]()
    sentence = str(refusal.value)
    assert said in sentence
    assert sentence.startswith(f"The datastore 'blobs' (container '{how.get('container', 'private')}' of account")
    assert "sig=" not in sentence
    assert KEY not in sentence
    assert refusal.value.__suppress_context__
    assert os.listdir(tmp_path) == ["x"]


def test_a_blob_that_is_not_there_is_named(opened: Callable[..., AzureBlobDatastore], tmp_path: Path) -> None:
    for act in (
        lambda: opened().open("none"),
        lambda: opened().download("none", tmp_path / "x"),
        lambda: opened("public", account_key="").open("none"),
    ):
        with pytest.raises(InputRefused, match="datastore://blobs/none does not exist"):
            act()
    assert os.listdir(tmp_path) == []


def test_a_signature_is_in_no_log_of_the_program_that_uses_it(
    opened: Callable[..., AzureBlobDatastore], caplog: pytest.LogCaptureFixture
) -> None:
    token = Azurite.sas("private", read=True, list=True)
    with caplog.at_level(logging.DEBUG):
        assert names(opened(sas_token=token), "") == VISIBLE
    signature = token.split("sig=")[1].split("&")[0]
    assert "GET /devstoreaccount1/private" in caplog.text
    assert signature not in caplog.text


def test_a_registered_container_is_opened_through_the_catalog(azurite: Azurite, tmp_path: Path) -> None:
    blobs = AzureBlobContainer("private", ACCOUNT, azurite.endpoint, account_key=KEY)
    with Mesh(tmp_path, agents=0) as mesh, Client(mesh.address) as client:
        client.catalog.register(Entry("blobs", blobs))
        client.catalog.register(Entry("images", Dataset("files", ("datastore://blobs/a/*.txt",))))
        client.catalog.check_paths(["datastore://blobs/a/*.txt"])
        with pytest.raises(InputRefused, match="datastore://blobs/none"):
            client.catalog.check_paths(["datastore://blobs/none"])
        assert [found.path for found in client.catalog.datastore("blobs").find("a/c")] == ["a/c/3.png"]
        assert KEY not in "".join(path.read_text() for path in tmp_path.glob("*.log"))
