"""The catalog as a client sees it: what is registered in each workspace, and the datastores opened.

register_model: file or folder ──packed──▶ WriteArtifact ──▶ storage ◀── RegisterEntry: its digest under a name
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh.archive import packed_path
from batchmesh.data import listing
from batchmesh.datastores.opening import open_datastore
from batchmesh.datastores.reference import parse
from batchmesh.entries import DEFAULT_WORKSPACE, Entry, EntryKind, Model
from batchmesh.entry_messages import entry_of, entry_to_proto, kind_to_proto
from batchmesh.errors import InputRefused
from batchmesh.v1 import storage_pb2

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from batchmesh.connection import Connection
    from batchmesh.datastores.store import Datastore


class Catalog:
    """Reached as `client.catalog`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def register(self, entry: Entry, *, overwrite: bool = False) -> Entry:
        """The entry as the mesh keeps it, with its version and without credentials; the same content as the newest
        version has is that version again. `overwrite` makes a new version, and replaces a datastore.

        Errors: BadName, BadEntry, EntryExists without `overwrite`, NoArtifact.
        """
        request = storage_pb2.RegisterEntryRequest(entry=entry_to_proto(entry), overwrite=overwrite)
        return entry_of(self._connection.call(self._connection.storage.RegisterEntry, request).entry)

    def register_model(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        workspace: str = DEFAULT_WORKSPACE,
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> Entry:
        """Sends a file, or what lies in a folder, and registers it as the next version.

        Errors: InputRefused for a path that cannot be read or holds no file; BadName, BadEntry.
        """
        with packed_path(Path(path), "to register as a model") as (archive, file):
            self._connection.upload(archive)
            model = Model(archive.digest, file, archive.size)
        entry = Entry(name, model, workspace=workspace, tags=tags or {}, description=description)
        return self.register(entry, overwrite=True)

    def get(self, kind: EntryKind, name: str, version: int = 0, workspace: str = DEFAULT_WORKSPACE) -> Entry:
        """One version, the newest for 0; without credentials. Errors: NoEntry, BadName."""
        request = storage_pb2.GetEntryRequest(workspace=workspace, kind=kind_to_proto(kind), name=name, version=version)
        return entry_of(self._connection.call(self._connection.storage.GetEntry, request).entry)

    def list(self, kind: EntryKind, workspace: str = DEFAULT_WORKSPACE, name: str = "") -> Iterator[Entry]:
        """The newest version of each name, or all versions of one, by name and version; without credentials.

        Errors: BadName.
        """
        request = storage_pb2.ListEntriesRequest(workspace=workspace, kind=kind_to_proto(kind), name=name)
        for page in self._connection.pages(self._connection.storage.ListEntries, request):
            yield from map(entry_of, page.entries)

    def credentials(self, name: str = "", workspace: str = DEFAULT_WORKSPACE) -> Entry:
        """A datastore with what opens it; the default one for no name. Errors: NoEntry, BadName."""
        request = storage_pb2.GetCredentialsRequest(workspace=workspace, datastore=name)
        return entry_of(self._connection.call(self._connection.storage.GetCredentials, request).entry)

    def check_paths(self, paths: Sequence[str], workspace: str = DEFAULT_WORKSPACE) -> None:
        """Looks whether each path or reference leads to a file, as seen from here.

        Errors: InputRefused for one that does not; SpecRefused for a malformed reference; NoEntry, BadEntry,
        DatastoreFailed for its datastore.
        """
        for path in paths:
            if found := parse(path):
                next(self.datastore(found.datastore, workspace).find(found.path))
            else:
                _check_path(path)

    def datastore(self, name: str = "", workspace: str = DEFAULT_WORKSPACE) -> Datastore:
        """A datastore, opened; the default one for no name. Errors: NoEntry, BadName, BadEntry."""
        return open_datastore(self.credentials(name, workspace))


def _check_path(path: str) -> None:
    try:
        next(listing.list_input(path))
    except listing.InputRefused as error:
        raise InputRefused(f"The {error}.") from None
