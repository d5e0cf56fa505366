"""The entry script as far as it can be judged before it is sent anywhere: it is read and parsed, never run."""

from __future__ import annotations

import ast
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchmesh.errors import ScriptRefused, SpecRefused
from batchmesh.rows.txt import TextRenderer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: The file beside the script with keyword arguments for pandas.DataFrame.to_csv, as ParallelRunStep reads it.
SETTINGS_FILE = "parallel_run_step.settings.json"

#: Flags that batchmesh itself puts into the script's argv; the agent's `own_flags` and --output.
RESERVED = frozenset(
    {
        "--error_threshold",
        "--logging_level",
        "--mini_batch_size",
        "--output",
        "--process_count_per_node",
        "--run_invocation_timeout",
        "--run_max_try",
    }
)

_TO_CSV = frozenset(
    {
        "sep",
        "na_rep",
        "float_format",
        "columns",
        "header",
        "index",
        "index_label",
        "quoting",
        "quotechar",
        "lineterminator",
        "date_format",
        "doublequote",
        "encoding",
        "escapechar",
        "decimal",
    }
)


@dataclass(frozen=True, slots=True)
class EntryScript:
    """A script that may be submitted: the folder that goes with it, its name relative to that folder (with slashes),
    and the JSON of its to_csv settings, or empty text."""

    root: Path
    name: str
    dataframe_to_csv_json: str


def check_script(script: str | os.PathLike[str], source_directory: str | os.PathLike[str] | None = None) -> EntryScript:
    """Finds the script, and refuses what could not run anywhere.

    `script` is relative to `source_directory` if that is given, else any local path, whose folder then is the source.
    Errors: ScriptRefused.
    """
    root, path = _located(os.fspath(script), source_directory)
    if not path.exists():
        raise ScriptRefused(f"The entry script {path} does not exist.")
    if not path.is_file():
        raise ScriptRefused(f"The entry script {path} is not a file.")
    _check_defines_run(path, _parsed(path))
    return EntryScript(root, path.relative_to(root).as_posix(), _to_csv_settings(path.with_name(SETTINGS_FILE)))


def split_arguments(arguments: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The arguments left for the script, and the settings that ParallelRunStep's runtime flags among them mean.

    Errors: SpecRefused for a first one that is no flag, a reserved flag, or a runtime flag with a value that is none.
    """
    if arguments and not arguments[0].startswith("-"):
        raise _refused(f"The script's first argument is {arguments[0]!r}; it has to begin with '-'.")
    left: list[str] = []
    settings: dict[str, Any] = {}
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if name in RESERVED:
            raise _refused(
                f"The script argument {name} is reserved: batchmesh itself puts {name} into argv; rename it."
            )
        if name not in _RUNTIME_FLAGS:
            left.append(argument)
            continue
        if not equals and waiting and not waiting[0].startswith("--"):
            value, equals = waiting.pop(0), "="
        settings[name.removeprefix("--")] = _RUNTIME_FLAGS[name](name, value if equals else None)
    return tuple(left), settings


def _located(script: str, source_directory: str | os.PathLike[str] | None) -> tuple[Path, Path]:
    if source_directory is None:
        path = Path(os.path.abspath(script))
        return path.parent, path
    root = Path(os.path.abspath(source_directory))
    if not root.is_dir():
        raise ScriptRefused(f"The source directory {root} is not a folder.")
    path = Path(os.path.normpath(root / script))
    if not path.exists() and Path(script).exists():
        path = Path(os.path.abspath(script))
    if not path.is_relative_to(root):
        raise ScriptRefused(f"The entry script {path} lies outside the source directory {root}.")
    return root, path


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise ScriptRefused(f"The entry script {path} does not compile: line {error.lineno}: {error.msg}.") from None
    except ValueError as error:
        raise ScriptRefused(f"The entry script {path} does not compile: {error}.") from None
    except OSError as error:
        raise ScriptRefused(f"The entry script {path} cannot be read: {error.strerror}.") from None


def _check_defines_run(path: Path, module: ast.Module) -> None:
    names = [each for statement in _top_level(module.body) for each in _bound(statement)]
    if "run" in names or "*" in names:
        return
    if any(isinstance(each, ast.AsyncFunctionDef) and each.name == "run" for each in _top_level(module.body)):
        raise ScriptRefused(f"The entry script {path} defines run() as async; write 'def run(mini_batch):'.")
    raise ScriptRefused(f"The entry script {path} defines no run(); write 'def run(mini_batch):' at its top level.")


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is loaded: those inside if, try, with and for too."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for block in ("body", "orelse", "finalbody"):
            yield from _top_level(getattr(statement, block, []))
        for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
            yield from _top_level(part.body)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement gives a value to; "*" for a star import."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in statement.names)
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
        yield statement.target.id


def _to_csv_settings(path: Path) -> str:
    """The JSON of {"append_row": {"pandas.DataFrame.to_csv": {…}}}'s inner object; empty where there is none."""
    if not path.is_file():
        return ""
    try:
        given = json.loads(path.read_bytes())
    except ValueError as error:
        raise ScriptRefused(f"{path} is not JSON: {error}.") from None
    append_row = given.get("append_row", {}) if isinstance(given, dict) else None
    keywords = append_row.get("pandas.DataFrame.to_csv", {}) if isinstance(append_row, dict) else None
    if not isinstance(keywords, dict):
        raise ScriptRefused(f'{path} must hold {{"append_row": {{"pandas.DataFrame.to_csv": {{…}}}}}}.')
    unknown = sorted(keywords.keys() - _TO_CSV)
    if unknown:
        raise ScriptRefused(
            f"{path}: pandas.DataFrame.to_csv cannot take {unknown[0]!r} here; it takes {', '.join(sorted(_TO_CSV))}."
        )
    settings = json.dumps(keywords) if keywords else ""
    try:
        TextRenderer(dataframe_header=False, to_csv_json=settings)
    except ValueError as error:
        raise ScriptRefused(f"{path}: {error}") from None
    return settings


def _seconds(flag: str, value: str | None) -> float:
    try:
        return float(value or "")
    except ValueError:
        raise _refused(f"The script argument {flag} takes a number of seconds, not {value!r}.") from None


def _truth(flag: str, value: str | None) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value is None:
        return True
    if value.lower() not in known:
        raise _refused(f"The script argument {flag} takes True or False, not {value!r}.")
    return known[value.lower()]


#: ParallelRunStep's runtime flags, which scripts' arguments carry there.
_RUNTIME_FLAGS: dict[str, Callable[[str, str | None], float | bool]] = {
    "--append_row_dataframe_header": _truth,
    "--first_task_creation_timeout": _seconds,
    "--progress_update_timeout": _seconds,
    "--task_overhead_timeout": _seconds,
}


def _refused(sentence: str) -> SpecRefused:
    return SpecRefused(sentence, {"arguments": sentence})
