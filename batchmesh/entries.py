"""What a name of the catalog stands for. Plain frozen values: no gRPC, no protobuf; no secret is in a repr."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from batchmesh.python_environment import PythonEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

#: The workspace of whoever names none.
DEFAULT_WORKSPACE = "default"
#: The datastore that each workspace has without anyone having registered it: a folder of storage's own.
DEFAULT_DATASTORE = "workspaceblobstore"
#: Said to whoever wants one; there is no way to register it.
FILE_SHARE_REFUSED = (
    "Azure Files are not served; copy the share to a blob container and register that, or mount it on every host and "
    "register the folder with register_local."
)


class EntryKind(StrEnum):
    """What kind of thing a name stands for. Names are unique among entries of one kind and workspace."""

    DATASTORE = "datastore"
    DATASET = "dataset"
    MODEL = "model"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A datastore: a folder that every host of the mesh sees at the same absolute path."""

    path: str


@dataclass(frozen=True, slots=True)
class AzureBlobContainer:
    """A datastore: a blob container, opened by a key, by a SAS, or by neither if anyone may read it."""

    container: str
    account: str
    #: URL of the account; empty: https://ACCOUNT.blob.core.windows.net.
    endpoint: str = ""
    #: Secrets, empty in what a listing or `get` answers.
    account_key: str = field(default="", repr=False)
    sas_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Dataset:
    """An input under a name, by reference."""

    #: files, csv, parquet or jsonl.
    kind: str
    #: Absolute, or datastore://NAME/PATH; files, folders or globs.
    paths: tuple[str, ...]
    #: As in JobSpec.
    csv_header: str = ""
    csv_types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A file or folder kept in storage as an artifact: a tar of the file, or of what lies in the folder."""

    #: SHA-256 (hex) of the artifact.
    digest: str
    #: Name of the file; empty for a folder.
    file: str = ""
    #: Bytes of the artifact.
    size: int = 0


Content = LocalFolder | AzureBlobContainer | Dataset | Model | PythonEnvironment


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one name in a workspace."""

    name: str
    content: Content
    #: From 1; 0 in what is to be registered: storage gives the next one.
    version: int = 0
    workspace: str = DEFAULT_WORKSPACE
    registered: datetime | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> EntryKind:
        """Told from the content."""
        return _KINDS[type(self.content)]


_KINDS: dict[type, EntryKind] = {
    LocalFolder: EntryKind.DATASTORE,
    AzureBlobContainer: EntryKind.DATASTORE,
    Dataset: EntryKind.DATASET,
    Model: EntryKind.MODEL,
    PythonEnvironment: EntryKind.ENVIRONMENT,
}
