"""protos/ are all that a client in another language needs: well-formed, described by each service, and enough."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.components.tools import CLONE, NODE_CLIENT, buf, node_modules, output_of
from tests.support.mesh import Mesh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPT = "import os\ndef run(mini_batch):\n    return [os.path.basename(path) for path in mini_batch]\n"
NAMES = [f"{number:03}.txt" for number in range(25)]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Mesh(tmp_path_factory.mktemp("mesh")) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def seen(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the Node client saw of one job over 25 files, of the services' health, and of what it was refused."""
    node_modules()
    folder = tmp_path_factory.mktemp("job")
    (folder / "script.py").write_text(SCRIPT)
    (folder / "input").mkdir()
    for name in NAMES:
        (folder / "input" / name).touch()
    places: list[str | Path] = [folder / "script.py", folder / "input", folder / "output"]
    found: dict[str, Any] = json.loads(
        output_of("node", "client.js", mesh.address, CLONE / "protos", *places, cwd=NODE_CLIENT)
    )
    return found


def test_the_protos_pass_buf_lint_and_are_formatted() -> None:
    output_of(buf(), "lint")
    assert output_of(buf(), "format", "--diff", "protos") == ""


def test_a_node_client_finds_all_three_services_healthy(seen: dict[str, Any]) -> None:
    assert seen["health"] == {"scheduler": "SERVING", "storage": "SERVING", "agent": "SERVING"}


def test_a_node_client_submits_a_job_and_watches_it_to_its_end(seen: dict[str, Any]) -> None:
    assert seen["last"] == seen["job"]["state"] == "STATE_SUCCEEDED"
    assert seen["job"]["progress"]["succeeded_items"] == 25
    assert seen["output"].splitlines() == NAMES


def test_a_node_client_reads_the_reason_of_an_unknown_job(seen: dict[str, Any]) -> None:
    assert (seen["unknown"]["code"], seen["unknown"]["reason"]) == ("NOT_FOUND", "NO_JOB")
    assert "no-such-job" in seen["unknown"]["message"]


def test_a_node_client_reads_which_field_of_a_job_is_refused(seen: dict[str, Any]) -> None:
    assert (seen["refused"]["code"], seen["refused"]["reason"]) == ("INVALID_ARGUMENT", "BAD_SPEC")
    assert [each["field"] for each in seen["refused"]["field_violations"]] == ["run_max_try"]


@pytest.mark.parametrize("service", ["Scheduler", "Storage", "Agent"])
def test_each_service_describes_itself_by_reflection(seen: dict[str, Any], service: str) -> None:
    address = seen["addresses"][service.lower()]
    how = ("--protocol", "grpc", "--http2-prior-knowledge", "--reflect", "--reflect-protocol", "grpc-v1alpha")
    listed = output_of(buf(), "curl", *how, "--list-services", f"http://{address}").split()
    assert {f"batchmesh.v1.{service}Service", "grpc.health.v1.Health"} <= set(listed)
