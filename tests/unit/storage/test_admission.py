"""What the catalog takes in, and the sentence for what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchmesh.entries import AzureBlobContainer, Dataset, Entry, LocalFolder, Model
from batchmesh.errors import BadEntry, BadName
from batchmesh.python_environment import PythonEnvironment
from batchmesh.storage.admission import check_entry, datastores_of

if TYPE_CHECKING:
    from batchmesh.entries import Content

KEY = "c2VjcmV0LWtleQ=="
SAS = "sv=2024&sig=secret-signature"


@pytest.mark.parametrize(
    "content",
    [
        LocalFolder("/data"),
        AzureBlobContainer("sampledata", "pipelinedata"),
        AzureBlobContainer("$root", "abc", "http://127.0.0.1:10000/abc", account_key=KEY),
        AzureBlobContainer("a-1", "abc", "https://abc.blob.core.windows.net/", sas_token=f"?{SAS}"),
        Dataset("files", ("/data", "datastore://blobs/mnist/", "/data/*.png")),
        Dataset("csv", ("/data",), "absent", {"id": "string", "at": "timestamp[ms, UTC]"}),
        Dataset("jsonl", ("/data",), csv_types={"id": "object"}),
        Model("0" * 64, "model.onnx", 7),
        PythonEnvironment("env", ("numpy",), "/usr/bin/python3"),
    ],
)
def test_what_can_be_is_taken(content: Content) -> None:
    check_entry(Entry("a.B_c-1", content))


@pytest.mark.parametrize("name", ["", ".hidden", "-a", "a/b", "..", "a b", "é", "a" * 129, "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(BadName, match="no name of a datastore"):
        check_entry(Entry(name, LocalFolder("/data")))
    with pytest.raises(BadName, match="no name of a workspace"):
        check_entry(Entry("data", LocalFolder("/data"), workspace=name))
    with pytest.raises(BadName, match="no name of an environment"):
        check_entry(Entry(name, PythonEnvironment("env")))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LocalFolder("data"), "'data', which is not absolute"),
        (LocalFolder("/a\0b"), "NUL"),
        (AzureBlobContainer("sampledata", "No_Account"), "3 to 24 of a-z and 0-9"),
        (AzureBlobContainer("a--b", "account"), "the container 'a--b'"),
        (AzureBlobContainer("Upper", "account"), "the container 'Upper'"),
        (AzureBlobContainer("abc", "account", "127.0.0.1:10000"), "URL of an account"),
        (AzureBlobContainer("abc", "account", "http://host:port/"), "URL of an account"),
        (AzureBlobContainer("abc", "account", account_key=KEY, sas_token=SAS), "give one of them"),
        (AzureBlobContainer("abc", "account", account_key="not base64"), "copy it whole"),
        (AzureBlobContainer("abc", "account", account_key=KEY[:-1]), "copy it whole"),
        (AzureBlobContainer("abc", "account", sas_token="sv=2024"), "without a signature"),
        (Dataset("xml", ("/data",)), "one of files, csv, parquet, jsonl"),
        (Dataset("files", ()), "no path"),
        (Dataset("files", ("/a", "data")), "'data', which is not absolute"),
        (Dataset("files", ("datastore://blobs/a/../b",)), "refers to nothing"),
        (Dataset("files", ("/data",), "absent"), "a csv_header, and is files"),
        (Dataset("parquet", ("/data",), csv_types={"id": "string"}), "leave them out"),
        (Dataset("csv", ("/data",), csv_types={"id": "object"}), "unknown type 'object'"),
        (Dataset("csv", ("/data",), "maybe"), "present or absent"),
        (Dataset("csv", ("/data",), "", {"id": "int"}), "column 'id' has the unknown type 'int'"),
        (Model("abc"), "no SHA-256"),
        (Model("0" * 64, "a/b"), "name of its file"),
        (PythonEnvironment("env", (), "python3"), "'python3', which is not absolute"),
    ],
)
def test_what_cannot_be_is_one_sentence_that_names_it(content: Content, said: str) -> None:
    with pytest.raises(BadEntry) as refused:
        check_entry(Entry("mine", content))
    sentence = str(refused.value)
    assert said in sentence
    assert sentence.startswith("The ")
    assert sentence.endswith(".")
    assert "'mine'" in sentence


@pytest.mark.parametrize(
    "secret",
    [
        AzureBlobContainer("abc", "account", f"https://account.blob.core.windows.net/?{SAS}"),
        AzureBlobContainer("abc", "account", f"https://name:{KEY}@host/"),
        AzureBlobContainer("abc", "account", account_key=KEY, sas_token=SAS),
        AzureBlobContainer("abc", "account", account_key=f"{KEY}!"),
        AzureBlobContainer("A", "account", account_key=KEY),
    ],
)
def test_no_sentence_shows_a_secret(secret: AzureBlobContainer) -> None:
    with pytest.raises(BadEntry) as refused:
        check_entry(Entry("mine", secret))
    assert KEY[:8] not in str(refused.value)
    assert "secret-signature" not in str(refused.value)


def test_a_value_with_secrets_does_not_show_them() -> None:
    shown = repr(Entry("mine", AzureBlobContainer("abc", "account", account_key=KEY, sas_token=SAS)))
    assert KEY not in shown
    assert SAS not in shown


def test_a_tag_has_a_name() -> None:
    with pytest.raises(BadEntry, match="a tag without a name"):
        check_entry(Entry("mine", LocalFolder("/data"), tags={"": "x"}))


def test_a_dataset_names_the_datastores_that_it_lies_in() -> None:
    dataset = Dataset("files", ("/data", "datastore://a/x", "datastore://b"))
    assert list(datastores_of(Entry("mine", dataset))) == ["a", "b"]
    assert list(datastores_of(Entry("mine", LocalFolder("/data")))) == []
