"""The config.json that says where a workspace is.

{"scheduler": "host:port", "workspace_name": "…", "token": "…", "ca": "…"}    a standing mesh
{"subscription_id": "…", "resource_group": "…", "workspace_name": "…"}        Azure's: the mesh of the home
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchmesh.entries import DEFAULT_WORKSPACE
from batchmesh.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDERS = (".azureml", "aml_config", ".")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What is read of it. No scheduler: the mesh of the home. `token` and `ca` are kept, and not used yet."""

    scheduler: str = ""
    workspace_name: str = DEFAULT_WORKSPACE
    token: str = ""
    ca: str = ""
    subscription_id: str = ""
    resource_group: str = ""


def read_config(path: str | None = None, file_name: str | None = None) -> ConfigFile:
    """The file that `path` is, or the nearest one in that folder and those above it; all defaults where there is none.

    Errors: Refused for a path that is not there, and for a file that is no JSON object of texts.
    """
    given = Path(path) if path is not None else Path.cwd()
    if not given.exists():
        raise Refused(f"The workspace's config {given} does not exist; give a config.json, or no path at all.")
    found = given if given.is_file() else next(_nearest(given.resolve(), file_name or "config.json"), None)
    return _parsed(found) if found is not None else ConfigFile()


def _nearest(folder: Path, name: str) -> Iterator[Path]:
    for place in (folder, *folder.parents):
        for inside in _FOLDERS:
            if (place / inside / name).is_file():
                yield place / inside / name


def _parsed(path: Path) -> ConfigFile:
    try:
        given: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise Refused(f"The workspace's config {path} is no JSON: {error}.") from None
    if not isinstance(given, dict):
        raise Refused(f"The workspace's config {path} is no JSON object.")
    fields = {name: given[name] for name in ConfigFile.__slots__ if given.get(name)}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise Refused(f"The workspace's config {path} has {name} {value!r}, which is no text.")
    return ConfigFile(**fields)
