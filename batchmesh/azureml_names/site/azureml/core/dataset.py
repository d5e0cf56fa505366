"""Datasets that a script asks for by name: the agent has their files on this node and says where."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from .agent import fetched
from .partial import Partial, others_of

if TYPE_CHECKING:
    from .workspace import Workspace


class Dataset(Partial):
    """One version of a registered dataset, of files or of a table. Its files can be read in place."""

    instead = "they have get_by_name, to_path, download, mount and to_pandas_dataframe"

    def __init__(self, name: str, described: dict[str, Any]) -> None:
        """`described` is what the agent writes down of a dataset that a worker asks for."""
        self.name = name
        self.version: int = described["version"]
        self._kind: str = described["kind"]
        self._header: str = described["csv_header"]
        self._types: dict[str, str] = described["csv_types"]
        #: Name in the dataset and local path of each file.
        self._files: list[tuple[str, str]] = [(name, path) for name, path in described["files"]]

    @staticmethod
    def get_by_name(workspace: Workspace | None, name: str, version: int | str = "latest") -> Dataset:
        """Errors: one sentence when there is no such dataset, or a file of it cannot be fetched."""
        number = 0 if version == "latest" else int(version)
        with open(fetched(f"dataset://{name}/{number}"), encoding="utf-8") as file:
            return Dataset(name, json.load(file))

    def to_path(self) -> list[str]:
        """The names of its files within it, each beginning with a slash."""
        return [f"/{name}" for name, _ in self._files]

    def download(self, target_path: str | None = None, overwrite: bool = False, **_: Any) -> list[str]:
        """Copies its files below a folder, by default a fresh one. Returns their paths. Errors: FileExistsError."""
        folder = target_path or tempfile.mkdtemp()
        paths = []
        for name, path in self._files:
            target = os.path.join(folder, name)
            if os.path.exists(target) and not overwrite:
                raise FileExistsError(f"{target} exists; say overwrite=True to write over it.")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(path, target)
            paths.append(target)
        return paths

    def mount(self, mount_point: str | None = None, **_: Any) -> Mounted:
        """A folder with links to its files, from start() to stop() or while a `with` block lasts."""
        return Mounted(mount_point or tempfile.mkdtemp(), self._files)

    def to_pandas_dataframe(self, **_: Any) -> Any:
        """All of its rows. Errors: TypeError for a dataset of files."""
        import pandas as pd

        if self._kind == "files":
            raise TypeError(f"Dataset {self.name} is one of files, which has no rows; use download() or mount().")
        tables = [self._table(path) for _, path in self._files]
        return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)

    def _table(self, path: str) -> Any:
        import pandas as pd

        if self._kind == "parquet":
            return pd.read_parquet(path)
        if self._kind == "jsonl":
            return pd.read_json(path, lines=True)
        times = [name for name, kind in self._types.items() if kind == "timestamp"]
        kinds = {name: _PANDAS.get(kind, kind) for name, kind in self._types.items() if kind != "timestamp"}
        header = None if self._header == "absent" else 0
        return pd.read_csv(path, header=header, dtype=kinds, parse_dates=times)

    def __repr__(self) -> str:
        return f"Dataset(name={self.name!r}, version={self.version})"


class Mounted:
    """Where a mounted dataset can be read."""

    def __init__(self, mount_point: str, files: list[tuple[str, str]]) -> None:
        self.mount_point = mount_point
        self._links = [(os.path.join(mount_point, name), path) for name, path in files]

    def start(self) -> None:
        for link, path in self._links:
            os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink(path, link)

    def stop(self) -> None:
        for link, _ in self._links:
            os.unlink(link)

    def __enter__(self) -> Mounted:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


#: Types of columns that pandas calls by another name.
_PANDAS = {"string": "str", "optional_bool": "boolean"}


__getattr__ = others_of(__name__)
