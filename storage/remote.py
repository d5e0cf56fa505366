"""An output that lies in a remote datastore: a prefix there, and what is done to it.

staging folder ──upload, each file whole at its name──▶ datastore://NAME/PATH/…   (the append_row file last)
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from batchmesh.data.job_report import LARGEST_SUMMARY, REPORT, SUMMARY
from batchmesh.errors import InputRefused, OutputNotEmpty, OutputUnwritable

from .tree import fingerprint, is_of_script

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from pathlib import Path

    from batchmesh.datastores.reference import Reference
    from batchmesh.datastores.store import Datastore, Found

_GLOB = re.compile(r"[*?\[]")


class RemoteFolder:
    """A folder of a datastore that is on no host. Blocks; raises DatastoreFailed and BadEntry."""

    def __init__(self, datastore: Datastore, reference: Reference) -> None:
        """Raises OutputUnwritable for a pattern."""
        if _GLOB.search(reference.path):
            raise OutputUnwritable(f"The output {reference} is a pattern; give a folder of the datastore.")
        self._datastore = datastore
        self._path = reference.path
        self._prefix = f"{reference.path}/" if reference.path else ""
        self._shown = str(reference)

    def files(self) -> Iterator[Found]:
        """All files below it but those of a report, with paths relative to it; none is no error."""
        for found in self._found(self._path):
            if not found.path:
                raise OutputUnwritable(f"The output {self._shown} is a file; give a folder.")
            if is_of_script(found.path):
                yield found

    def report_files(self) -> Iterator[Found]:
        """Those of a report, which a listing of the folder leaves out if it is one of ours."""
        return self._found(self._prefix + REPORT)

    def _found(self, path: str) -> Iterator[Found]:
        with suppress(InputRefused):
            for found in self._datastore.find(path):
                yield found._replace(path=found.path[len(self._prefix) :])

    def stamp(self, name: str) -> str:
        """That of a file in it; empty when it is not there."""
        with suppress(InputRefused):
            for found in self._datastore.find(self._prefix + name):
                if found.path == self._prefix + name:
                    return found.stamp
        return ""

    def fingerprint(self) -> str:
        """By what the files that a script has put there are known again."""
        return fingerprint((each.path, each.stamp) for each in self.files())

    def open(self, name: str) -> BinaryIO:
        """A file in it. Raises InputRefused when it is not there."""
        return self._datastore.open(self._prefix + name)

    def download(self, name: str, to: Path) -> None:
        """A file in it, there as a whole or not at all. Raises InputRefused when it is not there."""
        self._datastore.download(self._prefix + name, to)

    def summary(self) -> bytes:
        """What the summary of a report there holds; empty without a report."""
        try:
            with self.open(f"{REPORT}/{SUMMARY}") as file:
                return file.read(LARGEST_SUMMARY)
        except InputRefused:
            return b""

    def check_empty(self, may_stand: Container[str] | None, remedy: str) -> None:
        """`may_stand` are names directly in it that do not matter; None: nothing does. Raises OutputNotEmpty."""
        for found in chain(self.files(), self.report_files()):
            top = found.path.partition("/")[0]
            if may_stand is not None and top not in may_stand:
                raise OutputNotEmpty(f"The output folder {self._shown} is not empty (it holds {top}); {remedy}.")

    def probe(self, file: Path) -> None:
        """Writes `file` there, under its hidden name, and deletes it again."""
        self._datastore.upload(file, self._prefix + file.name, overwrite=True)
        self._datastore.delete(self._prefix + file.name)

    def upload(self, folder: Path, names: Iterable[str]) -> None:
        """Those files of a folder, one after the other."""
        for _ in self.uploaded(folder, names):
            pass

    def uploaded(self, folder: Path, names: Iterable[str]) -> Iterator[str]:
        """As upload(); the name of each file once it is there."""
        for name in names:
            self._datastore.upload(folder / name, self._prefix + name, overwrite=True)
            yield name

    def delete_others(self, stays: Callable[[str], bool]) -> None:
        """Deletes what does not stay, hidden files aside. Of a whole datastore, nothing but our own report."""
        others = self.files() if self._prefix else ()
        for found in chain(others, self.report_files()):
            if not stays(found.path):
                self._datastore.delete(self._prefix + found.path)
