"""Registered models: a file or a folder under a name, in versions."""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh import entries
from batchmesh.errors import Refused
from batchmesh.job import JobModel
from batchmesh.sdk import ranges

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from batchmesh.sdk.workspace import Workspace

#: Where `get_model_path` of a client puts what it fetches, below the current folder, as azureml does.
_FOLDER = "azureml-models"


class Model:
    """One version of a registered model."""

    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 azureml's name
        tags: Any = None,
        properties: Any = None,
        version: int | None = None,
        *,
        entry: entries.Entry | None = None,
    ) -> None:
        """The newest version, unless `version` or `id` (NAME:VERSION) says which. Errors: NoEntry."""
        del tags, properties
        if entry is None:
            wanted, _, of_id = (id or name or "").partition(":")
            number = ranges.version("a model", version or of_id or None)
            entry = workspace.client.catalog.get(entries.EntryKind.MODEL, wanted, number, workspace.name)
        self.workspace = workspace
        self._entry = entry

    def __repr__(self) -> str:
        return f"Model(name={self.name}, id={self.id}, version={self.version})"

    @property
    def name(self) -> str:
        return self._entry.name

    @property
    def version(self) -> int:
        return self._entry.version

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def description(self) -> str:
        return self._entry.description

    @property
    def tags(self) -> Mapping[str, str]:
        return self._entry.tags

    @property
    def created_time(self) -> datetime | None:
        return self._entry.registered

    @staticmethod
    def register(
        workspace: Workspace,
        model_path: str | os.PathLike[str],
        model_name: str,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        datasets: Any = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Any = None,
    ) -> Model:
        """Sends a file, or what lies in a folder, as the name's next version; the same content again is the same one.

        `properties`, `model_framework` and its version are kept among the tags. Errors: InputRefused for a path that is
        not there; Refused for `child_paths`; BadName.
        """
        del datasets
        if child_paths is not None:
            raise Refused("child_paths is not served; put the files into a folder and register that.")
        facts = {"model_framework": model_framework, "model_framework_version": model_framework_version}
        kept = {**(tags or {}), **(properties or {}), **{name: value for name, value in facts.items() if value}}
        catalog = workspace.client.catalog
        entry = catalog.register_model(
            model_name, model_path, workspace=workspace.name, tags=_texts(kept), description=description or ""
        )
        return Model(workspace, entry=entry)

    @staticmethod
    def list(
        workspace: Workspace,
        name: str | None = None,
        tags: Any = None,
        properties: Any = None,
        run_id: str | None = None,
        latest: bool = False,
    ) -> list[Model]:
        """All versions of all models, or of the one named; with `latest` the newest alone.

        `tags` and `properties` are lists of names, or of [name, value], that a model has to have.
        """
        del run_id
        wanted = [*(tags or []), *(properties or [])]
        catalog = workspace.client.catalog
        newest = [each for each in catalog.list(entries.EntryKind.MODEL, workspace.name) if name in (None, each.name)]
        found = newest if latest else [each for entry in newest for each in _versions(workspace, entry.name)]
        return [Model(workspace, entry=entry) for entry in found if all(_has(entry.tags, each) for each in wanted)]

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: Workspace | None = None) -> str:
        """The path of the file, or of the folder whose content lies directly in it. Errors: NoEntry.

        This is for a client, where the model is fetched below the current folder; a worker's own `azureml.core.Model`
        gives what its node has.
        """
        from batchmesh.sdk.workspace import Workspace

        model = Model(_workspace or Workspace.from_config(), model_name, version=version)
        folder = Path(_FOLDER, model.name, str(model.version))
        return model.download(str(folder)) if not folder.exists() else str(folder / model.content.file)

    @property
    def content(self) -> entries.Model:
        assert isinstance(self._entry.content, entries.Model)
        return self._entry.content

    def download(self, target_dir: str = ".", exist_ok: bool = False, exists_ok: bool | None = None) -> str:
        """Fetches it into a folder; returns the path of the file, or the folder.

        Errors: Refused when something of that name is there, without `exist_ok`.
        """
        folder = Path(target_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".batchmesh-", dir=folder) as scratch:
            archive, fresh = Path(scratch, "tar"), Path(scratch, "model")
            with archive.open("wb") as file:
                file.writelines(self.workspace.client.read_artifact(self.content.digest))
            with tarfile.open(archive) as tar:
                tar.extractall(fresh, filter="data")
            for found in sorted(fresh.iterdir()):
                _move(found, folder / found.name, replace=bool(exists_ok or exist_ok))
        return str(folder / self.content.file) if self.content.file else str(folder)

    def for_job(self) -> JobModel:
        """As a job names it."""
        return JobModel(self.name, self.version, self.content.digest, self.content.file)


def _versions(workspace: Workspace, name: str) -> list[entries.Entry]:
    return list(workspace.client.catalog.list(entries.EntryKind.MODEL, workspace.name, name))


def _texts(tags: dict[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in tags.items()}


def _has(tags: Mapping[str, str], wanted: Any) -> bool:
    """A name, or a pair of a name and a value."""
    if isinstance(wanted, str):
        return wanted in tags
    name, *value = wanted
    return name in tags and (not value or tags[name] == str(value[0]))


def _move(found: Path, to: Path, *, replace: bool) -> None:
    import shutil

    if to.exists() and not replace:
        raise Refused(f"{to} is there already; give exist_ok=True, or another target_dir.")
    if to.is_dir():
        shutil.rmtree(to)
    os.replace(found, to)
