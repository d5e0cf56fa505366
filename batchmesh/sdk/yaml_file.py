"""YAML as azureml's files are written in: plain mappings, lists and texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from batchmesh.errors import Refused

if TYPE_CHECKING:
    import os


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a file. Errors: Refused for a file that is not there, or holds something else."""
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is no YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(found, dict):
        raise Refused(f"{path} holds no YAML mapping.")
    return found


def write_yaml(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Replaces the file."""
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
