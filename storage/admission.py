"""What the catalog takes in: what an entry may say of itself. Decides, and does nothing; no sentence has a secret."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from batchmesh.data.columns import check_types
from batchmesh.data.kinds import KINDS
from batchmesh.datastores import reference
from batchmesh.datastores.blob_account import wrong_with
from batchmesh.entries import AzureBlobContainer, Dataset, LocalFolder, Model
from batchmesh.errors import BadEntry, BadName, SpecRefused
from batchmesh.python_environment import PythonEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.entries import Entry

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_name(what: str, name: str) -> None:
    """`what` has the name, in the sentence. Errors: BadName."""
    if not NAME.fullmatch(name):
        article = "an" if what.startswith("e") else "a"
        raise BadName(
            f"'{name}' is no name of {article} {what}; it has 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', and begins "
            "with a letter or a digit."
        )


def check_entry(entry: Entry) -> None:
    """Errors: BadName, BadEntry."""
    check_name("workspace", entry.workspace)
    check_name(entry.kind, entry.name)
    wrong = _wrong_with(entry) or ("a tag without a name" if "" in entry.tags else "")
    if wrong:
        raise BadEntry(f"The {entry.kind} '{entry.name}' has {wrong}.")


def datastores_of(entry: Entry) -> Iterator[str]:
    """The names of the datastores that a dataset's paths lie in; of an entry that has been checked."""
    for path in entry.content.paths if isinstance(entry.content, Dataset) else ():
        if found := reference.parse(path):
            yield found.datastore


def _wrong_with(entry: Entry) -> str:
    match entry.content:
        case LocalFolder(path):
            return _wrong_with_path(path)
        case AzureBlobContainer():
            return wrong_with(entry.content)
        case Dataset():
            return _wrong_with_dataset(entry.content)
        case Model(digest, file):
            if not _DIGEST.fullmatch(digest):
                return "a digest that is no SHA-256; it has 64 of 0-9 and a-f"
            return f"'{file}' as the name of its file; a name has no '/'" if "/" in file else ""
        case PythonEnvironment():
            path = entry.content.interpreter_path
            return _wrong_with_path(path) if path else ""


def _wrong_with_path(path: str) -> str:
    if not os.path.isabs(path):
        return f"the path '{path}', which is not absolute; every host has to find it at the same place"
    return "a path with a NUL in it" if "\0" in path else ""


def _wrong_with_dataset(dataset: Dataset) -> str:
    if dataset.kind not in KINDS:
        return f"the kind '{dataset.kind}'; it is one of {', '.join(KINDS)}"
    if not dataset.paths:
        return "no path; give at least one file, folder or glob"
    return next(filter(None, map(_wrong_with_input, dataset.paths)), "") or _wrong_with_csv(dataset)


def _wrong_with_input(path: str) -> str:
    try:
        return "" if reference.parse(path) else _wrong_with_path(path)
    except SpecRefused as error:
        return f"a path that refers to nothing: {str(error).removesuffix('.')}"


def _wrong_with_csv(dataset: Dataset) -> str:
    if dataset.csv_header and dataset.kind != "csv":
        return f"a csv_header, and is {dataset.kind}; leave it out"
    if dataset.csv_header not in ("", "present", "absent"):
        return f"'{dataset.csv_header}' as csv_header; it is present or absent"
    try:
        check_types(dataset.csv_types, dataset.kind)
    except ValueError as error:
        return f"columns of no type that there is: {error}"
    return ""
