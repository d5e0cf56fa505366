"""`batchmesh models`, `datasets`, `datastores`: each command is there, and what is refused before a mesh is asked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import pytest

from batchmesh.cli import REFUSED, main
from batchmesh.cli.entries import entry_json
from batchmesh.cli.group import group
from batchmesh.entries import AzureBlobContainer, Entry

if TYPE_CHECKING:
    from pathlib import Path

GROUPS = ("models", "datasets", "datastores")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test here may reach a mesh; if one does, it is not the user's."""
    monkeypatch.setenv("BATCHMESH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("act", ["register", "list", "show"])
def test_every_command_takes_json_a_workspace_and_a_mesh(name: str, act: str) -> None:
    found = group.get_command(click.Context(group), name)
    assert isinstance(found, click.Group)
    command = found.commands[act]
    assert command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--home", "--scheduler", "--workspace"} <= options


def test_no_option_takes_a_secret_itself() -> None:
    found = group.get_command(click.Context(group), "datastores")
    assert isinstance(found, click.Group)
    options = {option for parameter in found.commands["register"].params for option in parameter.opts}
    secret = {option for option in options if "key" in option or "sas" in option}
    assert secret == {"--account-key-env", "--account-key-file", "--sas-token-env", "--sas-token-file"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["datastores", "fly"], "No such command"),
        (["datastores", "register", "x"], "either --local DIR or --azure-blob ACCOUNT/CONTAINER"),
        (["datastores", "register", "x", "--local", "/a", "--azure-blob", "a/b"], "either --local DIR or"),
        (["datastores", "register", "x", "--azure-blob", "a"], "'a' is not ACCOUNT/CONTAINER"),
        (["datastores", "register", "x", "--azure-blob", "a/b", "--account-key-env", "NONE"], "NONE, named by"),
        (["datastores", "register", "x", "--azure-blob", "a/b", "--sas-token-file", "none"], "No such file"),
        (
            ["datastores", "register", "x", "--azure-blob", "a/b", "--sas-token-file", "f", "--sas-token-env", "E"],
            "give one of them",
        ),
        (["datastores", "register", "x", "--local", "/a", "--account-key-file", "key"], "no account key"),
        (["datasets", "register", "x", "--kind", "files"], "Missing option '--path'"),
        (["datasets", "register", "x", "--path", "a", "--kind", "xml"], "xml"),
        (["datasets", "register", "x", "--path", "datastore://a/../b", "--kind", "files"], "name it from the top"),
        (["datasets", "register", "x", "--path", "a", "--kind", "csv", "--csv-types", "id"], "NAME=VALUE"),
        (["models", "register", "x"], "Missing argument 'PATH'"),
        (["models", "register", "x", "a", "--tag", "y"], "NAME=VALUE"),
        (["models", "show", "x:newest"], "NAME[:VERSION]"),
    ],
)
def test_what_is_refused_is_one_sentence_and_status_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (home.parent / "key").write_text("c2VjcmV0\n")
    assert main(arguments) == REFUSED
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert "Traceback" not in shown.err
    assert "c2VjcmV0" not in shown.err
    assert not home.exists(), "nothing was started for it"


def test_an_entry_as_json_has_no_place_for_a_secret() -> None:
    blobs = AzureBlobContainer("sampledata", "account", account_key="c2VjcmV0", sas_token="sig=x")
    shown = entry_json(Entry("blobs", blobs, 1, registered=datetime(2026, 1, 1, tzinfo=UTC), tags={"a": "1"}))
    assert json.loads(shown) == {
        "kind": "datastore",
        "name": "blobs",
        "content": {"container": "sampledata", "account": "account", "endpoint": ""},
        "version": 1,
        "workspace": "default",
        "registered": "2026-01-01T00:00:00+00:00",
        "description": "",
        "tags": {"a": "1"},
    }
