"""Who may import whom: services never each other, the kit no service, and what must stay light stays light."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("scheduler", "agent", "storage")
KIT = [
    path for path in (ROOT / "batchmesh").rglob("*.py") if path.relative_to(ROOT / "batchmesh").parts[0] not in SERVICES
]

#: The scheduler's decision core, and the planner.
DECIDES = (
    "machine",
    "model",
    "events",
    "attempts",
    "pools",
    "placement",
    "settling",
    "isolation",
    "takeover",
    "stragglers",
    "standstill",
    "thresholds",
    "planner",
    "splitting",
    "inputs",
    "scaling",
)
#: What it asks of its database and writes to it, which need not know which database that is.
ASKS = ("tables", "target_rows", "counting", "schema", "clock", "after", "reuse")
#: Modules that the decision core may not know, and those of the worker, which runs in the user's environment.
_SHELL = {"asyncio", "grpc", "sqlite3", "batchmesh.v1", "google"}
_HEAVY = {
    "grpc",
    "google",
    "structlog",
    "tenacity",
    "click",
    "rich",
    "batchmesh.calls",
    "batchmesh.serving",
    "batchmesh.status",
    "batchmesh.v1",
}
LIGHT = {
    **{f"scheduler/{name}.py": _SHELL for name in (*DECIDES, *ASKS)},
    "storage/admission.py": _SHELL,
    **{
        f"agent/{name}.py": _HEAVY | {"asyncio"}
        for name in ("worker", "entry", "frames", "attempt", "asking", "replies", "start", "zipapp")
    },
    **{str(path.relative_to(ROOT)): _HEAVY for path in (ROOT / "batchmesh" / "rows").glob("*.py")},
    **{str(path.relative_to(ROOT)): _HEAVY for path in (ROOT / "batchmesh" / "data").glob("*.py")},
    **{str(path.relative_to(ROOT)): _HEAVY for path in (ROOT / "batchmesh" / "azureml_names").rglob("*.py")},
    **{str(path.relative_to(ROOT)): _HEAVY for path in (ROOT / "batchmesh" / "datastores").glob("*.py")},
    "batchmesh/entries.py": _HEAVY,
    # A client program imports these: they know of messages and of the command line no more than it does.
    **{
        str(path.relative_to(ROOT)): _HEAVY | {"asyncio", "batchmesh.messages"}
        for folder in ("sdk", "azureml")
        for path in (ROOT / "batchmesh" / folder).glob("*.py")
    },
    "batchmesh/segment.py": _HEAVY,
    # An embedded mesh starts with each `batchmesh run`: what its supervisor loads is time that a newcomer waits.
    **{f"batchmesh/{name}.py": _HEAVY for name in ("supervisor", "crew", "child", "deaths", "home")},
    "batchmesh/failed_items.py": _HEAVY,
}
#: In the worker's zip it lies beside the package.
ZIP_MAIN = ROOT / "agent" / "start.py"
#: The only modules of the scheduler and the agent that know protos.
PROTO_ROOMS = {
    "scheduler": {
        "admission",
        "anteroom",
        "checking",
        "reusing",
        "service",
        "housekeeping",
        "dispatcher",
        "hearing",
        "outcomes",
        "publisher",
        "commit_requests",
        "streams",
        "nodes",
        "jobs",
        "spec",
        "supplies",
        "planning",
        "scanning",
        "report",
        "compute",
        "__main__",
    },
    "agent": {
        "service",
        "opening",
        "outbox",
        "output_files",
        "output_folder",
        "storages",
        "uploader",
        "heartbeat",
        "artifacts",
        "files",
        "registered",
        "scanning",
        "logs",
        "__main__",
    },
}


def imports_of(path: Path) -> set[str]:
    """Absolute module names that a file imports, wherever in it; relative ones begin with a dot."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names |= {base, *(f"{base}.{alias.name}".replace("..", ".") for alias in node.names)}
    return names


def touches(names: set[str], forbidden: str) -> bool:
    return any(name == forbidden or name.startswith(forbidden + ".") for name in names)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str) -> None:
    others = [other for other in SERVICES if other != service]
    for path in (ROOT / service).rglob("*.py"):
        names = imports_of(path)
        assert not any(touches(names, f"batchmesh.{other}") for other in others), path
        absolutely = touches(names, f"batchmesh.{service}")
        assert not absolutely or path == ZIP_MAIN, f"{path} imports itself absolutely"
        assert not any(touches(names, each) for each in SERVICES), f"{path} imports a service by its folder's name"


def test_the_kit_imports_no_service() -> None:
    for path in KIT:
        assert not any(touches(imports_of(path), f"batchmesh.{service}") for service in SERVICES), path


@pytest.mark.parametrize("file", sorted(LIGHT))
def test_what_must_stay_light_imports_nothing_heavy(file: str) -> None:
    names = imports_of(ROOT / file)
    assert not [each for each in LIGHT[file] if touches(names, each)]


@pytest.mark.parametrize("service", sorted(PROTO_ROOMS))
def test_protos_stop_at_the_doors(service: str) -> None:
    knows = {path.stem for path in (ROOT / service).glob("*.py") if touches(imports_of(path), "batchmesh.v1")}
    assert knows <= PROTO_ROOMS[service]


def test_one_module_of_the_scheduler_knows_which_database_it_is() -> None:
    assert [path.stem for path in (ROOT / "scheduler").glob("*.py") if touches(imports_of(path), "sqlite3")] == [
        "store"
    ]
