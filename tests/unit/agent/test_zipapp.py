"""What the worker's zip holds: all that workers import, and nothing that an older Python cannot read."""

from __future__ import annotations

import ast
import sys
import zipfile
from pathlib import Path

import pytest

from batchmesh.agent import zipapp

PACKAGE = Path(__file__).parents[3] / "batchmesh"
MODULES = zipapp.modules(str(PACKAGE))
#: Libraries that the user's environment may hold; they are imported where a table comes, or the user's own code does.
OPTIONAL = {"numpy", "pandas", "pyarrow", "azureml", "azureml_user"}
#: Names of the standard library, and of parameters, that came after CPython 3.9.
LATER_NAMES = {"StrEnum", "UTC", "pairwise", "batched", "Self", "TypeAlias", "ParamSpec", "NotRequired", "override"}
LATER_PARAMETERS = {"strict", "slots", "kw_only", "root_dir"}


def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{name}.py").read_text(), feature_version=(3, 9))


def executed(node: ast.AST) -> list[ast.AST]:
    """All nodes but those that only type checkers look at."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return []
    return [node, *(below for child in ast.iter_child_nodes(node) for below in executed(child))]


def imported(name: str) -> set[str]:
    """Absolute names of what a module imports, each with all that it may be the name of."""
    package = ["batchmesh", *name.split("/")[:-1]]
    found: set[str] = set()
    for node in executed(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("name", [*MODULES, "agent/start", "agent/zipapp"])
def test_a_worker_imports_the_standard_library_and_what_the_zip_holds(name: str) -> None:
    for each in imported(name):
        top, _, rest = each.partition(".")
        if top != "batchmesh":
            assert top in sys.stdlib_module_names | OPTIONAL, each
        elif any((PACKAGE / f"{rest.replace('.', '/')}{end}").exists() for end in (".py", "/__init__.py")):
            path = rest.replace(".", "/")
            assert not rest or {path, f"{path}/__init__"} & set(MODULES), f"add {each} to zipapp"


@pytest.mark.parametrize("name", [*MODULES, "agent/start", "agent/zipapp"])
def test_a_worker_uses_nothing_that_came_after_the_oldest_python(name: str) -> None:
    for node in executed(tree(name)):
        assert not (isinstance(node, ast.Attribute) and node.attr in LATER_NAMES)
        assert not (isinstance(node, ast.alias) and node.name in LATER_NAMES)
        assert not (isinstance(node, ast.keyword) and node.arg in LATER_PARAMETERS)


def test_the_worker_is_made_whole_and_beside_no_rest(tmp_path: Path) -> None:
    path = zipapp.make(str(tmp_path / "workers"))
    assert [path] == [str(each) for each in (tmp_path / "workers").iterdir()]
    assert path == zipapp.make(str(tmp_path / "workers"))
    with zipfile.ZipFile(path) as archive:
        held = archive.namelist()
    assert {f"batchmesh/{name}.py" for name in MODULES} | {f"batchmesh/{name}.pyc" for name in MODULES} <= set(held)
    assert {"__main__.py", "__main__.pyc"} <= set(held)
    assert "batchmesh/agent/job.py" not in held
