"""The catalog from the command line of a standing mesh."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from batchmesh.cli import REFUSED, main
from batchmesh.client import Client
from batchmesh.entries import AzureBlobContainer
from tests.support.mesh import Mesh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "dmVyeS1zZWNyZXQ="
SAS = "sv=2024&sig=very-secret"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Mesh(tmp_path_factory.mktemp("mesh"), agents=0) as mesh:
        yield mesh


@pytest.fixture
def said(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `batchmesh …` prints on standard output."""
    monkeypatch.setenv("BATCHMESH_SCHEDULER", mesh.address)

    def run(*arguments: str) -> str:
        assert main(arguments) == 0, capsys.readouterr().err
        return capsys.readouterr().out.removesuffix("\n")

    return run


def test_a_model_is_registered_listed_and_shown(said: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("1")
    path = str(tmp_path / "net.onnx")
    assert said("models", "register", "net", path, "--tag", "area=digits", "--description", "a net") == "net:1"
    assert said("models", "register", "net", path) == "net:1"
    (tmp_path / "net.onnx").write_text("2")
    assert said("models", "register", "net", path) == "net:2"
    header, row = (line.split("\t") for line in said("models", "list").splitlines())
    assert header == ["name", "version", "holds", "registered", "tags"]
    assert (row[:3], row[4]) == (["net", "2", "net.onnx"], "")
    assert [line.split("\t")[1] for line in said("models", "list", "net").splitlines()] == ["version", "1", "2"]
    first = json.loads(said("models", "show", "net:1", "--json"))
    assert (first["version"], first["tags"], first["description"]) == (1, {"area": "digits"}, "a net")
    assert "area=digits" in said("models", "show", "net:1")
    assert "version\t2" in said("models", "show", "net")


def test_a_dataset_keeps_absolute_paths_and_references(
    said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("id\n1\n")
    said("datastores", "register", "here", "--local", ".")
    paths = ("--path", "x.csv", "--path", "datastore://here/*.csv")
    given = ("--kind", "csv", "--csv-header", "present", "--csv-types", "id=string")
    assert said("datasets", "register", "table", *paths, *given) == "table:1"
    shown = json.loads(said("datasets", "show", "table", "--json"))
    assert shown["content"] == {
        "kind": "csv",
        "paths": [str(tmp_path / "x.csv"), "datastore://here/*.csv"],
        "csv_header": "present",
        "csv_types": {"id": "string"},
    }
    assert f"csv {tmp_path}/x.csv and 1 more" in said("datasets", "list")


def test_what_a_dataset_or_model_names_has_to_be_there(
    mesh: Mesh, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHMESH_SCHEDULER", mesh.address)
    for arguments, sentence in (
        (["datasets", "register", "x", "--kind", "files", "--path", f"{tmp_path}/none"], "none' does not exist"),
        (["datasets", "register", "x", "--kind", "files", "--path", "datastore://none/a"], "no datastore 'none'"),
        (["datasets", "register", "a/b", "--kind", "files", "--path", str(tmp_path)], "holds no file"),
        (["datasets", "show", "none"], "no dataset 'none'"),
        (["models", "show", "none:3"], "no model 'none'"),
        (["models", "register", "x", f"{tmp_path}/none"], "no file or folder"),
        (["datastores", "register", "a/b", "--local", "/a"], "no name of a datastore"),
        (["datastores", "register", "x", "--azure-blob", "A/b"], "the account 'A'"),
    ):
        assert main(arguments) == REFUSED
        shown = capsys.readouterr()
        assert sentence in shown.err
        assert shown.err.startswith("batchmesh: ")
        assert shown.err.count("\n") == 1
        assert shown.out == ""


@pytest.mark.parametrize("way", ["env", "file"])
def test_a_blob_container_takes_its_secret_from_elsewhere_and_never_shows_it(
    mesh: Mesh, said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("BATCHMESH_AZURE_BLOB_ENDPOINT", "http://127.0.0.1:1/account")
    for option, secret in (("account-key", KEY), ("sas-token", SAS)):
        name = f"{option}-{way}"
        (tmp_path / option).write_text(f"{secret}\n")
        monkeypatch.setenv("SECRET", secret)
        named = "SECRET" if way == "env" else str(tmp_path / option)
        shown = [said("datastores", "register", name, "--azure-blob", "account/sampledata", f"--{option}-{way}", named)]
        assert shown == [name]
        shown += [said("datastores", *act) for act in (["list"], ["show", name], ["show", name, "--json"])]
        assert not [text for text in shown if KEY in text or "very-secret" in text]
        with Client(mesh.address) as client:
            content = client.catalog.credentials(name).content
        assert isinstance(content, AzureBlobContainer)
        assert content.endpoint == "http://127.0.0.1:1/account"
        assert secret in (content.account_key, content.sas_token)


def test_another_datastore_takes_a_name_only_when_that_is_asked_for(
    said: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said("datastores", "register", "one", "--local", str(tmp_path))
    assert main(["datastores", "register", "one", "--local", "/other"]) == REFUSED
    assert "ask to overwrite it" in capsys.readouterr().err
    said("datastores", "register", "one", "--local", "/other", "--overwrite")
    assert json.loads(said("datastores", "show", "one", "--json"))["content"] == {"path": "/other"}


def test_a_workspace_is_a_namespace_with_a_datastore_of_its_own(said: Callable[..., str], mesh: Mesh) -> None:
    said("datastores", "register", "theirs", "--local", "/a", "--workspace", "team")
    listed = [json.loads(line) for line in said("datastores", "list", "--workspace", "team", "--json").splitlines()]
    assert [each["name"] for each in listed] == ["theirs", "workspaceblobstore"]
    assert listed[1]["content"]["path"] == os.path.join(mesh.folder, "storage", "datastore", "team")
    assert "theirs" not in said("datastores", "list")
