"""The inputs of a job, wherever they lie: files of this host, or of a datastore that this scheduler reaches.

    text ──┬─ a path, or a reference into a local datastore: its path ──▶ listed where it is
           └─ a reference into a remote one ──find──▶ references, bytewise

Blocking: for planning threads.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Protocol

from batchmesh.data.listing import InputRefused, Run, first_file, list_input, list_runs
from batchmesh.data.sources import Source, local
from batchmesh.datastores.reference import Reference, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchmesh.datastores.store import Datastore


class Remote(Protocol):
    """Opens the datastores of a workspace by their names."""

    def __call__(self, name: str, /) -> Datastore:
        """Errors: NoEntry, BadEntry, MeshUnreachable."""


class Inputs:
    """`texts` are the inputs with those in local datastores as paths; the others begin with datastore://."""

    def __init__(self, given: Sequence[str], remote: Remote | None) -> None:
        """Errors: as of Remote; SpecRefused for a malformed reference."""
        self._remote = remote
        self._datastores: dict[str, Datastore] = {}
        self.texts = tuple(self._located(text) for text in given)

    def list(self, number: int, after: str | None = None) -> Iterator[str]:
        """The files of one input in bytewise order, as paths or references; with `after`, one once yielded, only those
        behind it.

        Errors: as of listing.list_input and Datastore.find.
        """
        for folder, names in self.runs(number, after):
            for name in names:
                yield folder + name

    def runs(self, number: int, after: str | None = None) -> Iterator[Run]:
        """The same files, as far as they follow one another in one folder; each reference by itself."""
        text = self.texts[number]
        reference = parse(text)
        if reference is None:
            yield from list_runs(text, after)
            return
        last = parse(after) if after is not None else None
        for found in self._datastores[reference.datastore].find(reference.path, last.path if last else None):
            folder, slash, name = str(Reference(reference.datastore, found.path)).rpartition("/")
            yield Run(folder + slash, [name])

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
        text = self.texts[number]
        return next(self.list(number)) if is_remote(text) else first_file(text)

    def check_readable(self, name: str) -> None:
        """Asks for the first bytes of a reference from `list`, for who may list a datastore may not read it yet.

        Errors: those of Datastore.open.
        """
        reference = parse(name)
        assert reference is not None, "a path is looked at by its permissions"
        with self._datastores[reference.datastore].open(reference.path) as file:
            file.read(1)

    def source(self, name: str) -> Source:
        """That of `list` as something to be read.

        Errors: when it is opened and read, those of Datastore.open and OSError.
        """
        reference = parse(name)
        if reference is None:
            return local(name)
        return Source(name, partial(self._datastores[reference.datastore].open, reference.path))

    def _located(self, text: str) -> str:
        reference = parse(text)
        if reference is None:
            return text
        if self._remote is None:
            raise InputRefused(f"input {text!r} lies in a datastore, and there is none here; give a path")
        if reference.datastore not in self._datastores:
            self._datastores[reference.datastore] = self._remote(reference.datastore)
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
