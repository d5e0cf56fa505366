"""Where a workspace is: the nearest config.json, or the home."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from batchmesh.errors import Refused
from batchmesh.sdk.config_file import ConfigFile, read_config

if TYPE_CHECKING:
    from pathlib import Path

AZURE = {"subscription_id": "s", "resource_group": "g", "workspace_name": "mine"}


def test_a_config_names_a_scheduler_and_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"scheduler": "host:1", "token": "t", "ca": "c"}))
    assert read_config(str(tmp_path)) == ConfigFile("host:1", "default", "t", "c")
    assert read_config(str(tmp_path / "config.json")).scheduler == "host:1"


def test_a_config_of_azure_is_a_workspace_of_the_home(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(AZURE))
    found = read_config(str(tmp_path))
    assert (found.scheduler, found.workspace_name, found.subscription_id) == ("", "mine", "s")


@pytest.mark.parametrize("inside", [".azureml", "aml_config", "."])
def test_the_nearest_config_above_is_found(tmp_path: Path, inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / inside).mkdir(exist_ok=True)
    (tmp_path / inside / "config.json").write_text(json.dumps(AZURE))
    monkeypatch.chdir(below)
    assert read_config().workspace_name == "mine"
    assert read_config(file_name="other.json") == ConfigFile()


@pytest.mark.parametrize(
    ("text", "said"), [("{", "no JSON"), ("[]", "no JSON object"), ('{"scheduler": 7}', "no text")]
)
def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Refused, match=said):
        read_config(str(tmp_path))
    with pytest.raises(Refused, match="does not exist"):
        read_config(str(tmp_path / "none.json"))
