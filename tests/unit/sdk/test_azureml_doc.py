"""docs/azureml.md against the code: each class, member and parameter, what is unused, and each refusal's sentence."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batchmesh import sdk
from batchmesh.azureml.names import INSTEAD, SERVED
from batchmesh.sdk import dataset
from batchmesh.sdk.abstract_dataset import AbstractDataset

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "azureml.md").read_text()
#: Members that the SDK's modules have for each other.
OWN = {
    "check_there",
    "comes_after",
    "content",
    "for_job",
    "from_frame",
    "has_window",
    "read_as",
    "is_here",
    "path_in",
    "registered",
    "requirements",
    "settled",
    "store",
    "target_name",
    "window_paths",
}
#: Exported without a table of their own: errors, and what a status is.
WITHOUT_TABLE = {"AmlComputeStatus", "ComputeTargetException", "NotServed", "RunFailed"}


class Row(NamedTuple):
    what: str
    served: str
    how: str


def tables() -> dict[str, list[Row]]:
    """Class to the rows of its table."""
    found: dict[str, list[Row]] = {}
    for section in TEXT.split("\n### ")[1:]:
        name, _, body = section.partition("\n")
        lines = body.split("\n## ")[0].splitlines()
        rows = [
            re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |")) for line in lines if line[:2] == "| "
        ]
        found[name] = [Row(*map(str.strip, [*row, ""][:3])) for row in rows[1:]]
    return found


TABLES = tables()


def class_of(name: str) -> Any:
    return getattr(dataset if name.endswith("Factory") else sdk, name)


def members(kind: Any) -> set[str]:
    """Public ones that are not only the SDK's own."""
    bases = kind.__mro__[:2] if issubclass(kind, AbstractDataset) else (kind,)
    names = {name for base in bases for name in vars(base)}
    fields = set(getattr(kind, "__dataclass_fields__", ()))
    return {name for name in names if not name.startswith("_")} - OWN - fields


def function_of(kind: Any, name: str) -> Any:
    """The function of a member; None of a property or a value."""
    found = inspect.getattr_static(kind, "__init__" if name == kind.__name__ else name)
    found = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    return found if inspect.isfunction(found) else None


def parameters(function: Any) -> list[str]:
    return [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.name not in ("self", "cls") and not each.name.startswith("_") and each.kind is not each.KEYWORD_ONLY
    ]


def deleted(function: Any) -> set[str]:
    """The parameters that it takes and throws away."""
    if function.__name__ == "__init__" and function.__code__.co_filename == "<string>":
        return set()  # a dataclass's own
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    targets = [target for node in ast.walk(tree) if isinstance(node, ast.Delete) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def sentences() -> set[str]:
    """Every text in the code, "…" in the place of what is named in it."""
    found = set()
    for path in [*(ROOT / "batchmesh" / "sdk").glob("*.py"), ROOT / "batchmesh" / "entries.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [each.value if isinstance(each, ast.Constant) else "…" for each in node.values]
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_exported_class_has_a_table() -> None:
    classes = {name for name in sdk.__all__ if inspect.isclass(getattr(sdk, name))} - WITHOUT_TABLE
    assert classes == {name for name in TABLES if not name.endswith("Factory")}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_each_member_is_in_the_table_of_its_class_with_its_parameters(name: str) -> None:
    kind = class_of(name)
    listed = {}
    for row in TABLES[name]:
        assert row.served in ("yes", "differs", "unused", "refused"), row
        if not row.what.startswith("·"):
            found = re.fullmatch(r"`(\w+)(?:\((.*)\))?`", row.what)
            assert found, row
            listed[found[1]] = found[2]
    assert set(listed) - {name} == members(kind)
    for member, given in listed.items():
        function = function_of(kind, member)
        assert (given is None) == (function is None), member
        if function is not None:
            assert given == ", ".join(parameters(function)), member


@pytest.mark.parametrize("name", sorted(TABLES))
def test_each_parameter_that_is_thrown_away_is_said_to_be_unused(name: str) -> None:
    said: dict[str, dict[str, str]] = {}
    member, refused = "", set()
    for row in TABLES[name]:
        if row.what.startswith("·"):
            said[member][row.what.strip("·` ")] = row.served
            continue
        member = re.split(r"\W", row.what.strip("`"))[0]
        said[member] = {}
        if row.served == "refused":
            refused.add(member)
    for member, rows in said.items():
        function = function_of(class_of(name), member)
        if function is None or member in refused:
            continue
        assert set(rows) <= set(parameters(function)), member
        thrown = deleted(function) & set(parameters(function))
        assert {each for each in thrown if rows.get(each) != "unused"} == set(), member


def test_each_sentence_of_what_is_refused_is_in_the_code() -> None:
    known = sentences()
    quoted = [row.how for rows in TABLES.values() for row in rows if row.served == "refused"]
    assert len(quoted) > 20
    for how in quoted:
        assert re.fullmatch(r'".*\."', how), how
        assert how.strip('"') in known, how


def test_each_module_and_each_name_is_there() -> None:
    for module, names in SERVED.items():
        if names:
            assert f"| `{module}` | {', '.join(f'`{name}`' for name in names)} |" in TEXT
    for name, use in INSTEAD.items():
        assert f"| `{name}` | {use} |" in TEXT
