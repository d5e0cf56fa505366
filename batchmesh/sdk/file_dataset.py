"""Files as items."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh.datastores.reference import parse
from batchmesh.errors import InputRefused
from batchmesh.sdk.abstract_dataset import AbstractDataset
from batchmesh.sdk.places import files_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.sdk.consumption import DatasetConsumptionConfig
    from batchmesh.sdk.places import File
    from batchmesh.sdk.workspace import Workspace

#: What take and skip leave is named file by file in the job, whose message is bounded: files, and bytes of their names.
MAX_FILES, MAX_BYTES = 100_000, 3 * 2**20


class FileDataset(AbstractDataset):
    """Files, folders and globs; each file is one item."""

    def to_path(self) -> list[str]:
        """The files' paths below the dataset's own folder, with a slash before them. Errors: InputRefused."""
        return [f"/{_below(base, file.text)}" for base, file in self._files()]

    def download(
        self, target_path: str | None = None, overwrite: bool = False, ignore_not_found: bool = False
    ) -> list[str]:
        """Copies its files below a folder (default: a temporary one) and returns their paths.

        Errors: InputRefused for a file that is there already, without `overwrite`; DatastoreFailed.
        """
        import tempfile

        del ignore_not_found
        folder = Path(target_path or tempfile.mkdtemp(prefix="batchmesh-"))
        return [_copied(file, folder / _below(base, file.text), overwrite) for base, file in self._files()]

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """As an input under the dataset's own name; how its files come to a node is the node's matter."""
        return self.as_named_input(self.name or "input").as_mount(path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """As `as_mount`."""
        return self.as_named_input(self.name or "input").as_download(path_on_compute)

    def window_paths(self, workspace: Workspace) -> tuple[str, ...]:
        """The files that take and skip leave. Errors: InputRefused for more than a job can name."""
        del workspace
        paths = tuple(itertools.islice((file.text for _, file in self._files()), MAX_FILES + 1))
        if len(paths) > MAX_FILES or sum(map(len, paths)) > MAX_BYTES:
            raise InputRefused(
                f"take and skip leave more files of {self!r} than a job can name ({MAX_FILES:,}, and 3 MB of names); "
                "name a folder or a glob instead."
            )
        return paths

    def _files(self) -> Iterator[tuple[str, File]]:
        """Each file of the window, with the path that it was found by."""
        pairs = ((base, file) for base in self.content.paths for file in files_at(self.workspace, base))
        stop = None if self._take is None else self._skip + self._take
        return itertools.islice(pairs, self._skip, stop)


def _copied(file: File, to: Path, overwrite: bool) -> str:
    if to.exists() and not overwrite:
        raise InputRefused(f"{to} is there already; give overwrite=True, or another target_path.")
    file.copy_to(to)
    return str(to)


def _below(base: str, file: str) -> str:
    """The part of a file's path below the folder that the dataset names; its name if it is named itself."""
    names = [(parse(text) or ("", text))[1] for text in (base, file)]
    folder = names[0] if names[0] != names[1] else os.path.dirname(names[0])
    while folder and not names[1].startswith(folder.rstrip("/") + "/"):
        folder = os.path.dirname(folder)  # a glob
    return names[1][len(folder.rstrip("/")) :].lstrip("/")
