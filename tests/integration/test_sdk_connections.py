"""The mesh of a home, as workspaces of one process share it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from batchmesh import Workspace
from batchmesh.sdk.connections import close_all
from tests.support.living import process_of, processes_of
from tests.support.story import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home, and no config.json where the program stands; nothing of it is left at the end."""
    path = tmp_path / "home"
    monkeypatch.setenv("BATCHMESH_HOME", str(path))
    monkeypatch.chdir(tmp_path)
    yield path
    close_all()
    wait_for(lambda: not processes_of(path), "the end of the home's processes", 15)


def test_all_workspaces_of_a_home_share_one_client(home: Path) -> None:
    first, second = Workspace.from_config(), Workspace.get("second")
    assert first.client is second.client
    assert (first.name, second.name) == ("default", "second")
    assert first.get_default_datastore().path("a").path_on_datastore == "a"
    assert first.compute_targets == {}


def test_a_workspace_asked_for_after_its_mesh_has_ended_is_of_the_next_one(home: Path) -> None:
    first = Workspace.from_config()
    first.client.mesh()
    os.kill(process_of(home, "batchmesh.supervisor"), signal.SIGKILL)
    wait_for(lambda: not processes_of(home), "the end of the first mesh", 15)
    second = Workspace.from_config()
    assert second.client is not first.client
    assert second.client.mesh().embedded
