"""What a job has published, taken for another job: only as long as it is still what it was.

A file is known by its inode and time, or the stamp of its blob; the files of a summary_only job by a fingerprint over
those of each. Whether that is so is looked at before and after the copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh.errors import InputRefused, NoOutput

from .disk import sync_file
from .manifest import FileIdentity
from .tree import copy_file, copy_tree, fingerprint_of, script_files

if TYPE_CHECKING:
    from typing import Protocol

    from .manifest import Manifest
    from .remote import RemoteFolder

    class Published(Protocol):
        """Blocks; raises NoOutput, DatastoreFailed, OSError."""

        manifest: Manifest

        def copy_file(self, to: Path) -> None:
            """The append_row file."""

        def copy_tree(self, to: Path) -> None:
            """All that the script has written, into a new folder."""


class PublishedHere:
    """In a folder of this host."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._path = Path(manifest.output_path)

    def copy_file(self, to: Path) -> None:
        self._check_file()
        copy_file(self._path, to)
        self._check_file()

    def copy_tree(self, to: Path) -> None:
        self._check_tree()
        copy_tree(self._path, to, script_files(self._path))
        self._check_tree()

    def _check_file(self) -> None:
        known = FileIdentity(self.manifest.inode, self.manifest.modified)
        if not known.modified or not known.is_that_of(self._path) or self._path.stat().st_size != self.manifest.bytes:
            raise _changed(self.manifest)

    def _check_tree(self) -> None:
        if not self.manifest.fingerprint or fingerprint_of(self._path) != self.manifest.fingerprint:
            raise _changed(self.manifest)


class PublishedRemotely:
    """In a folder of a remote datastore; `folder` is that of the file, or of all."""

    def __init__(self, manifest: Manifest, folder: RemoteFolder) -> None:
        self.manifest = manifest
        self._folder = folder

    def copy_file(self, to: Path) -> None:
        self._check_file()
        self._download(self.manifest.file_name, to)
        self._check_file()

    def copy_tree(self, to: Path) -> None:
        self._check_tree()
        to.mkdir(exist_ok=True)
        for name in (found.path for found in self._folder.files()):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            self._download(name, to / name)
        self._check_tree()

    def _download(self, name: str, to: Path) -> None:
        try:
            self._folder.download(name, to)
            sync_file(to)
        except InputRefused:
            raise _changed(self.manifest) from None

    def _check_file(self) -> None:
        if not self.manifest.stamp or self._folder.stamp(self.manifest.file_name) != self.manifest.stamp:
            raise _changed(self.manifest)

    def _check_tree(self) -> None:
        if not self.manifest.fingerprint or self._folder.fingerprint() != self.manifest.fingerprint:
            raise _changed(self.manifest)


def _changed(manifest: Manifest) -> NoOutput:
    return NoOutput(f"The output of job {manifest.job_id} at {manifest.output_path} has gone, or changed since.")
