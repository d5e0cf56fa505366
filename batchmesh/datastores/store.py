"""What every datastore can do. All of it blocks; paths are relative to its top, with '/' between their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Found(NamedTuple):
    """One file of a datastore."""

    path: str
    #: Bytes.
    size: int
    #: Changes whenever the content does: the etag of a blob, or the time of its last change in nanoseconds as text.
    stamp: str


class Datastore(Protocol):
    """Safe to use from several threads.

    Errors of each method: DatastoreFailed when it does not answer, BadEntry when what is registered does not open it
    (wrong credentials, no such container, a library that is not installed), and those named there.
    """

    @property
    def name(self) -> str:
        """As it was registered."""

    def local(self, path: str) -> str | None:
        """The absolute path on this host, if it is a folder of this host."""

    def find(self, path: str, after: str | None = None) -> Iterator[Found]:
        """The files that `path` (a file, a folder, a glob, or nothing for all) means, in bytewise order of their paths,
        behind the one that `after` names. Hidden names are left out, as of a folder.

        Errors: InputRefused when nothing is there; never with `after`.
        """

    def download(self, path: str, to: Path) -> None:
        """The whole file into a folder that is there; at once or not at all.

        Errors: InputRefused when there is none; OSError of the disk that it goes to.
        """

    def open(self, path: str) -> BinaryIO:
        """To be read at any place, without reading what lies before. Errors: InputRefused when there is none."""

    def upload(self, from_: Path, path: str, *, overwrite: bool) -> None:
        """The whole file, there at once or not at all. Errors: PathTaken without `overwrite`, InputRefused when
        `from_` cannot be read."""

    def delete(self, path: str) -> None:
        """One file. What is not there is deleted already."""
