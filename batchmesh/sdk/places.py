"""Where items lie, as a program says it, and what is there: absolute paths, and references into datastores.

"/data/*.csv"  datastore.path("mnist/")  (datastore, "mnist/")  a list of them ──placed──▶ texts of a job or a dataset
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchmesh.data import listing
from batchmesh.datastores.reference import parse
from batchmesh.errors import InputRefused, Refused, SpecRefused
from batchmesh.sdk.data_reference import DataReference
from batchmesh.sdk.datastore import Datastore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.datastores.store import Datastore as Store
    from batchmesh.sdk.workspace import Workspace


def placed(given: Any) -> tuple[tuple[str, ...], Workspace | None]:
    """The paths that `given` means, and the workspace of their datastores, if there is one.

    Errors: SpecRefused for what is no place; Refused for places of several workspaces.
    """
    many = given if isinstance(given, list) else [given]
    references = [_reference(each) for each in many]
    if not references:
        raise SpecRefused("A dataset needs at least one path.")
    workspaces = [each.datastore.workspace for each in references if isinstance(each, DataReference)]
    if len({(each.client.address, each.name) for each in workspaces}) > 1:
        raise Refused("The paths of one dataset lie in datastores of several workspaces; make a dataset of each.")
    return tuple(map(str, references)), workspaces[0] if workspaces else None


def _reference(given: Any) -> str | DataReference:
    if isinstance(given, DataReference):
        return given
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Datastore):
        return given[0].path(given[1])
    if isinstance(given, Datastore):
        return given.path()
    if isinstance(given, str | os.PathLike):
        return _path(os.fspath(given))
    raise SpecRefused(f"{given!r} is no place: give datastore.path(…), (datastore, path) or an absolute path.")


def _path(text: str) -> str:
    if "://" in text and parse(text) is None:
        raise SpecRefused(
            f"The path {text!r} is an address of the web, which is not read; download it, or register a datastore."
        )
    return text if "://" in text else os.path.abspath(text)


def check_there(workspace: Workspace | None, path: str) -> None:
    """Errors: InputRefused when nothing is there; nothing is said of a folder that this process cannot see."""
    reference = parse(path)
    if reference is None:
        _first_local(path)
        return
    datastore = _datastore(workspace, reference.datastore)
    if datastore.is_here:
        next(datastore.store.find(reference.path), None)


@dataclass(frozen=True)
class File:
    """One file, as a job names it; `store` and `path` in it, or no store and a path of this host."""

    text: str
    store: Store | None
    path: str

    def copy_to(self, to: Path) -> None:
        """Errors: InputRefused, DatastoreFailed."""
        to.parent.mkdir(parents=True, exist_ok=True)
        if self.store is not None:
            self.store.download(self.path, to)
        else:
            shutil.copyfile(self.path, to)

    def on_this_host(self, folder: Path) -> Path:
        """Itself, or a copy of it in `folder`. Errors: InputRefused, DatastoreFailed."""
        local = self.path if self.store is None else self.store.local(self.path)
        if local is not None:
            return Path(local)
        self.copy_to(folder / self.path)
        return folder / self.path


def files_at(workspace: Workspace | None, path: str) -> Iterator[File]:
    """The files that a path or a reference means, in their order. Errors: InputRefused for none."""
    reference = parse(path)
    if reference is not None:
        store = _datastore(workspace, reference.datastore).store
        for found in store.find(reference.path):
            yield File(str(reference._replace(path=found.path)), store, found.path)
        return
    try:
        for each in listing.list_input(path):
            yield File(each, None, each)
    except listing.InputRefused as error:
        raise InputRefused(f"{error}.") from None


def _first_local(path: str) -> None:
    try:
        next(iter(listing.list_input(path)), None)
    except listing.InputRefused as error:
        raise InputRefused(f"{error}.") from None


def _datastore(workspace: Workspace | None, name: str) -> Datastore:
    if workspace is None:
        raise SpecRefused(f"datastore://{name} is of no workspace here; give Datastore.get(ws, {name!r}).path(…).")
    return Datastore.get(workspace, name)
