"""Manifests: what the last commit of a job published, or was about to publish. Durable."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

from .disk import read_record, said_clearly, write_durably

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from .places import Places


class FileIdentity(NamedTuple):
    """By which a file is known again. The inode alone is not enough: the next file may be given the same."""

    inode: int
    #: Nanoseconds since 1970. 0: not known, in a manifest of an earlier version.
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        return cls(status.st_ino, status.st_mtime_ns)

    def is_that_of(self, path: Path) -> bool:
        """Whether the file at `path` is that one, as it was left."""
        try:
            status = path.lstat()
        except OSError:
            return False
        return self.inode == status.st_ino and self.modified in (0, status.st_mtime_ns)


class Own(NamedTuple):
    """Of the files at the path of a job's output: those that are its own, of commits before."""

    files: tuple[FileIdentity, ...] = ()
    #: In a remote datastore.
    stamps: tuple[str, ...] = ()
    #: An upload was cut off: whatever is there remotely.
    anything: bool = False

    def has_file(self, path: Path) -> FileIdentity | None:
        """That of the file at `path`, if it is one of them."""
        return next((each for each in self.files if each.is_that_of(path)), None)

    def has_stamp(self, stamp: str) -> bool:
        """Whether it is that of one of them."""
        return self.anything or stamp in self.stamps


@dataclass(frozen=True)
class Manifest:
    """What a commit published. Until `published` it is what a commit is about to publish."""

    job_id: str
    digest: str
    output_path: str
    report_path: str
    rows: int
    bytes: int
    published: bool
    #: Identity of the output file; 0 when there is none.
    inode: int = 0
    modified: int = 0
    #: Identity of the output file of an earlier commit, which stands there until this one's takes its place.
    earlier_inode: int = 0
    earlier_modified: int = 0
    #: Of a summary_only job: by what its files are known again; empty when it is not known.
    fingerprint: str = ""
    #: Of an output in a remote datastore: the workspace of that, and what the file had for a stamp once it was there.
    workspace: str = ""
    stamp: str = ""
    earlier_stamp: str = ""
    #: All of it is in the staging folder, and some of it may be in the datastore.
    staged: bool = False

    @property
    def file_name(self) -> str:
        """That of the published append_row file; empty when there is none."""
        return self.output_path.rpartition("/")[2] if self.inode else ""

    def own(self) -> Own:
        """What the job may have at its output's path."""
        files = [FileIdentity(self.inode, self.modified), FileIdentity(self.earlier_inode, self.earlier_modified)]
        return Own(
            tuple(each for each in files if each.inode),
            tuple(filter(None, (self.stamp, self.earlier_stamp))),
            anything=self.staged and not self.published,
        )


class Manifests:
    """The manifests of all jobs. All of it blocks."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def of(self, job_id: str) -> Manifest | None:
        """That of the job's last commit; None when there was none, or it is damaged."""
        found = read_record(self._places.manifest(job_id))
        return Manifest(**found) if found else None

    def write(self, manifest: Manifest) -> None:
        """Raises DiskFull."""
        path = self._places.manifest(manifest.job_id)
        with said_clearly(path):
            write_durably(path, json.dumps(asdict(manifest)).encode())

    def own(self, job_id: str) -> Own:
        """What the job may have at its output's path from earlier commits."""
        manifest = self.of(job_id)
        return manifest.own() if manifest else Own()
