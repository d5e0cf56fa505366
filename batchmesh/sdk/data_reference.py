"""A place in a datastore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchmesh.datastores.reference import Reference

if TYPE_CHECKING:
    from batchmesh.sdk.datastore import Datastore


@dataclass(frozen=True)
class DataReference:
    """A file, a folder or a glob in a datastore: what `datastore.path(…)` gives."""

    datastore: Datastore
    data_reference_name: str | None = None
    path_on_datastore: str | None = None
    #: Kept: how files come to a node is the node's matter.
    mode: str = "mount"
    path_on_compute: str | None = None
    overwrite: bool = False

    def __str__(self) -> str:
        return str(Reference(self.datastore.name, (self.path_on_datastore or "").lstrip("/")))

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataReference:
        """A place below this one."""
        inside = "/".join(part.strip("/") for part in (self.path_on_datastore, path) if part)
        return DataReference(self.datastore, data_reference_name or self.data_reference_name, inside)

    def as_mount(self) -> DataReference:
        return self

    def as_download(self, path_on_compute: str | None = None, overwrite: bool = False) -> DataReference:
        del path_on_compute, overwrite
        return self


class DataPath(DataReference):
    """azureml's other name for a place, with other parameters."""

    def __init__(self, datastore: Datastore, path_on_datastore: str | None = None, name: str | None = None) -> None:
        super().__init__(datastore, name, path_on_datastore)
