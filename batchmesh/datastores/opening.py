"""From a registered datastore to one that can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.datastores.blob_account import wrong_with
from batchmesh.entries import AzureBlobContainer, LocalFolder
from batchmesh.errors import BadEntry

if TYPE_CHECKING:
    from batchmesh.datastores.store import Datastore
    from batchmesh.entries import Entry


def open_datastore(entry: Entry, *, patient: bool = True) -> Datastore:
    """`entry` is one with credentials. Nothing is asked of the datastore yet.

    One that does not answer later is asked again for about a minute; once only if not `patient`.

    Errors: BadEntry for an entry that is no datastore, that can be none, or whose library is not installed here.
    """
    if isinstance(entry.content, LocalFolder):
        from batchmesh.datastores.local import LocalDatastore

        return LocalDatastore(entry.name, entry.content)
    if isinstance(entry.content, AzureBlobContainer):
        if wrong := wrong_with(entry.content):
            raise BadEntry(f"The datastore '{entry.name}' has {wrong}.")
        try:
            from batchmesh.datastores.azure_blob import RETRIES, AzureBlobDatastore
        except ModuleNotFoundError:
            raise BadEntry(
                f"The datastore '{entry.name}' is a blob container, which needs azure-storage-blob on this host too; "
                "install batchmesh[azure] there."
            ) from None
        return AzureBlobDatastore(entry.name, entry.content, retries=RETRIES if patient else 0)
    raise BadEntry(f"'{entry.name}' is a {entry.kind}, not a datastore; name a datastore.")
