"""The inputs of a job, wherever they lie: files of this host, or of a datastore that this scheduler reaches.

    text ──┬─ a path, or a reference into a local datastore: its path ──▶ listed and read where it is
           └─ a reference into a remote one ──find──▶ references, bytewise ──(a table)──▶ cache ──▶ read from there

Blocking: for planning threads.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batchmesh import errors
from batchmesh.data.listing import InputRefused, list_input
from batchmesh.data.slices import SliceFields, UnreadableFile
from batchmesh.datastores.cache import TooLarge
from batchmesh.datastores.reference import Reference, parse
from batchmesh.datastores.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batchmesh.datastores.cache import Cache
    from batchmesh.datastores.store import Datastore

#: Bytes of a file that tell its columns.
_HEAD = 2**20


@dataclass(frozen=True)
class Remote:
    """The datastores of a workspace, and the tables of them that have been fetched."""

    workspace: str
    #: By name. Errors: NoEntry, BadEntry, MeshUnreachable.
    open: Callable[[str], Datastore]
    cache: Cache


class Table(NamedTuple):
    """A table file to be split: its path on this host, and what its slices say instead, "" and {} of a local one."""

    path: str
    stamp: str
    fields: SliceFields


class Inputs:
    """`texts` are the inputs with those in local datastores as paths; the others begin with datastore://."""

    def __init__(self, given: Sequence[str], remote: Remote | None) -> None:
        """Errors: as of Remote.open; SpecRefused for a malformed reference."""
        self._remote = remote
        self._datastores: dict[str, Datastore] = {}
        self.texts = tuple(self._located(text) for text in given)

    def list(self, number: int, after: str | None = None) -> Iterator[str]:
        """The files of one input in bytewise order, as paths or references; with `after`, one once yielded, only those
        behind it.

        Errors: as of listing.list_input and Datastore.find.
        """
        text = self.texts[number]
        reference = parse(text)
        if reference is None:
            yield from list_input(text, after)
            return
        last = parse(after) if after is not None else None
        for found in self._datastores[reference.datastore].find(reference.path, last.path if last else None):
            yield str(Reference(reference.datastore, found.path))

    def stamped(self, number: int) -> Iterator[tuple[str, int, str]]:
        """Path or reference, size in bytes and stamp of each file of one input; as stamp_of() for those of this host.

        Errors: as of `list`.
        """
        text = self.texts[number]
        reference = parse(text)
        if reference is None:
            yield from map(stamp_of, list_input(text))
            return
        for found in self._datastores[reference.datastore].find(reference.path):
            yield str(Reference(reference.datastore, found.path)), found.size, found.stamp

    def first(self, number: int) -> str:
        """The first file of one input. Errors: as of `list`."""
        return next(self.list(number))

    def check_readable(self, name: str) -> None:
        """Asks for the first bytes of a reference from `list`, for who may list a datastore may not read it yet.

        Errors: those of Datastore.open.
        """
        reference = parse(name)
        assert reference is not None, "a path is looked at by its permissions"
        with self._datastores[reference.datastore].open(reference.path) as file:
            file.read(1)

    @contextmanager
    def table(self, name: str, stamp: str = "") -> Iterator[Table]:
        """The file of that name from `list` on this host, there while this is held; with a `stamp`, as it was then.

        Errors: UnreadableFile for one that is gone, has changed or is too large, and what is raised within names the
        reference; DatastoreFailed, BadEntry and OSError, for then it is not this file that is bad.
        """
        reference = parse(name)
        if reference is None:
            yield Table(name, "", {})
            return
        assert self._remote is not None, "its input was listed"
        staging = Staging(self._remote.cache, self._remote.workspace, self._datastores[reference.datastore])
        try:
            held, found = staging.file(reference.path, stamp)
        except (errors.InputRefused, TooLarge) as error:
            why = str(error)
            raise UnreadableFile(why if name in why else f"{name} cannot be read: {why}") from None
        try:
            yield Table(str(held.path), found, {"file": name, "stamp": found})
        except UnreadableFile as error:
            raise UnreadableFile(str(error).replace(str(held.path), name)) from None
        finally:
            held.release()

    @contextmanager
    def head(self, name: str) -> Iterator[str]:
        """A file on this host with the beginning of that from `list`; the file itself if it is on this host.

        Errors: those of Datastore.open, OSError.
        """
        reference = parse(name)
        if reference is None:
            yield name
            return
        with tempfile.TemporaryDirectory(prefix="batchmesh-head-") as folder:
            path = os.path.join(folder, posixpath.basename(reference.path))
            with self._datastores[reference.datastore].open(reference.path) as source, open(path, "wb") as head:
                head.write(source.read(_HEAD))
            yield path

    def _located(self, text: str) -> str:
        reference = parse(text)
        if reference is None:
            return text
        if self._remote is None:
            raise InputRefused(f"input {text!r} lies in a datastore, and there is none here; give a path")
        if reference.datastore not in self._datastores:
            self._datastores[reference.datastore] = self._remote.open(reference.datastore)
        return self._datastores[reference.datastore].local(reference.path) or text


def stamp_of(path: str) -> tuple[str, int, str]:
    """Path, size in bytes and stamp of a file of this host; 0 and "" of one that is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return path, 0, ""
    return path, found.st_size, str(found.st_mtime_ns)


def is_remote(name: str) -> bool:
    """Whether that of Inputs.texts, or from its `list`, lies in a datastore."""
    return parse(name) is not None
