"""Where files lie: a container of Azure Blob storage, or a folder that every host of the mesh sees.

program ──upload, download──▶ datastore ◀──inputs, outputs── nodes
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh.entries import DEFAULT_DATASTORE, FILE_SHARE_REFUSED, AzureBlobContainer, Entry, EntryKind, LocalFolder
from batchmesh.errors import DatastoreFailed, InputRefused, PathTaken, Refused, SpecRefused
from batchmesh.sdk.data_reference import DataReference
from batchmesh.sdk.errors import NotServed
from batchmesh.sdk.unused import log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchmesh.datastores.store import Datastore as Store
    from batchmesh.datastores.store import Found
    from batchmesh.sdk.workspace import Workspace

#: Sends a program that was written for Azure to another blob endpoint.
ENDPOINT_VARIABLE = "BATCHMESH_AZURE_BLOB_ENDPOINT"


class Datastore:
    """A registered datastore of a workspace; `Datastore(ws, name)` is the same as `Datastore.get(ws, name)`."""

    def __init__(self, workspace: Workspace, name: str | None = None, *, entry: Entry | None = None) -> None:
        """`entry` is what the catalog said of it, where the caller has asked. Errors: NoEntry."""
        if entry is None:
            entry = _entry(workspace, name or DEFAULT_DATASTORE)
        self.workspace = workspace
        self.name = entry.name
        self._entry = entry

    def __repr__(self) -> str:
        return f"Datastore({self.name!r}, {self.datastore_type})"

    # Registering and finding

    @staticmethod
    def register_azure_blob_container(
        workspace: Workspace,
        datastore_name: str,
        container_name: str,
        account_name: str,
        sas_token: str | None = None,
        account_key: str | None = None,
        protocol: str | None = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        create_if_not_exists: bool = False,
        skip_validation: bool = False,
        blob_cache_timeout: int | None = None,
        grant_workspace_access: bool = False,
        subscription_id: str | None = None,
        resource_group: str | None = None,
    ) -> Datastore:
        """With neither a key nor a SAS token the container is read anonymously.

        `endpoint` is azureml's suffix (core.windows.net) or the whole URL of the account; the environment variable
        BATCHMESH_AZURE_BLOB_ENDPOINT goes before it. Unless `skip_validation`, the container is asked once.
        Errors: BadName, BadEntry, EntryExists without `overwrite`, DatastoreFailed, NotServed.
        """
        del blob_cache_timeout, grant_workspace_access, subscription_id, resource_group
        if create_if_not_exists:
            raise NotServed(
                f"create_if_not_exists is not served; make the container {container_name!r} of the account "
                f"{account_name!r} first, and register it then."
            )
        url = os.environ.get(ENDPOINT_VARIABLE) or _account_url(account_name, endpoint, protocol)
        content = AzureBlobContainer(container_name, account_name, url, account_key or "", sas_token or "")
        return _registered(workspace, datastore_name, content, overwrite, check=not skip_validation)

    @staticmethod
    def register_local(
        workspace: Workspace, datastore_name: str, path: str | os.PathLike[str], overwrite: bool = False
    ) -> Datastore:
        """A folder that every host of the mesh sees at the same path; it is batchmesh's own, azureml has none.

        Errors: BadName, BadEntry, EntryExists without `overwrite`.
        """
        return _registered(workspace, datastore_name, LocalFolder(os.path.abspath(path)), overwrite, check=False)

    @staticmethod
    def register_azure_file_share(workspace: Workspace, datastore_name: str, *_: object, **__: object) -> Datastore:
        """Always refused."""
        del workspace, datastore_name
        raise NotServed(FILE_SHARE_REFUSED)

    @staticmethod
    def get(workspace: Workspace, datastore_name: str) -> Datastore:
        """Errors: NoEntry."""
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: Workspace) -> Datastore:
        """The folder that storage keeps for each workspace."""
        return Datastore(workspace, DEFAULT_DATASTORE)

    # What it is

    @property
    def datastore_type(self) -> str:
        """AzureBlob or Local."""
        return "AzureBlob" if isinstance(self._entry.content, AzureBlobContainer) else "Local"

    @property
    def container_name(self) -> str | None:
        content = self._entry.content
        return content.container if isinstance(content, AzureBlobContainer) else None

    @property
    def account_name(self) -> str | None:
        content = self._entry.content
        return content.account if isinstance(content, AzureBlobContainer) else None

    @property
    def is_default(self) -> bool:
        return self.name == DEFAULT_DATASTORE

    @cached_property
    def _opened(self) -> Store:
        return self.workspace.client.catalog.datastore(self.name, self.workspace.name)

    @property
    def is_here(self) -> bool:
        """Whether this process can reach its files: a folder of the mesh's hosts need not be one of ours."""
        folder = self._opened.local("")
        return folder is None or os.path.isdir(folder)

    @property
    def store(self) -> Store:
        """What reads and writes its files, with its credentials.

        Errors: BadEntry, DatastoreFailed, also for a folder that is not here.
        """
        if not self.is_here:
            raise DatastoreFailed(
                f"The datastore {self.name!r} is the folder {self._opened.local('')} of the mesh's hosts, which this "
                "host does not see; mount it here, or use a blob container."
            )
        return self._opened

    # Files

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataReference:
        """A file, a folder or a glob in it; nothing is read."""
        return DataReference(self, data_reference_name, path)

    def upload(
        self, src_dir: str, target_path: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> DataReference:
        """Sends all files below a folder; those that are there are left as they are, unless `overwrite`.

        Errors: InputRefused, DatastoreFailed.
        """
        root = Path(src_dir)
        if not root.is_dir():
            raise InputRefused(f"The folder {src_dir} to upload does not exist.")
        files = sorted(str(path) for path in root.rglob("*") if path.is_file())
        return self.upload_files(files, str(root), target_path, overwrite, show_progress)

    def upload_files(
        self,
        files: Sequence[str],
        relative_root: str | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:
        """Sends these files, each under its path below `relative_root` (default: the folder that all lie in)."""
        if isinstance(files, str):
            raise SpecRefused(f"files is a list of paths, not {files!r}.")
        paths = [Path(os.path.abspath(file)) for file in files]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None or not paths:
            raise InputRefused(
                f"The file {missing} to upload does not exist." if missing else "There is no file to upload."
            )
        root = (
            Path(os.path.abspath(relative_root))
            if relative_root
            else Path(os.path.commonpath([p.parent for p in paths]))
        )
        store, target = self.store, (target_path or "").strip("/")
        for path in paths:
            name = "/".join(filter(None, (target, _relative(path, root))))
            try:
                store.upload(path, name, overwrite=overwrite)
            except PathTaken:
                log.info("%s is there already and is left as it is; overwrite=True replaces it.", name)
                continue
            if show_progress:
                print(f"Uploaded {path} to {name}.")  # noqa: T201 as azureml does
        return self.path(target)

    def download(
        self, target_path: str, prefix: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> int:
        """Fetches what lies at or below `prefix`, each file under its whole path in the datastore; returns how many."""
        store, count = self.store, 0
        for found in _found(store, (prefix or "").strip("/")):
            to = Path(target_path) / found.path
            if to.exists() and not overwrite:
                log.info("%s is there already and is left as it is; overwrite=True replaces it.", to)
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            store.download(found.path, to)
            count += 1
            if show_progress:
                print(f"Downloaded {found.path} to {to}.")  # noqa: T201 as azureml does
        return count


def _found(store: Store, path: str) -> Iterator[Found]:
    """The files there, or none."""
    try:
        yield from store.find(path)
    except InputRefused:
        return


def _entry(workspace: Workspace, name: str) -> Entry:
    if name == DEFAULT_DATASTORE:
        # The first call for it makes it.
        return workspace.client.catalog.credentials(name, workspace.name)
    return workspace.client.catalog.get(EntryKind.DATASTORE, name, workspace=workspace.name)


def _registered(
    workspace: Workspace, name: str, content: AzureBlobContainer | LocalFolder, overwrite: bool, *, check: bool
) -> Datastore:
    entry = Entry(name, content, workspace=workspace.name)
    if check:
        _check_opens(entry)
    return Datastore(workspace, entry=workspace.client.catalog.register(entry, overwrite=overwrite))


def _check_opens(entry: Entry) -> None:
    """Errors: DatastoreFailed, BadEntry: no such container, wrong credentials."""
    from batchmesh.datastores.opening import open_datastore

    next(_found(open_datastore(entry), ""), None)


def _account_url(account: str, endpoint: str | None, protocol: str | None) -> str:
    """Empty for Azure's own."""
    if endpoint is None or "://" in endpoint:
        return endpoint or ""
    return f"{protocol or 'https'}://{account}.blob.{endpoint}"


def _relative(path: Path, root: Path) -> str:
    if not path.is_relative_to(root):
        raise Refused(f"The file {path} to upload does not lie in relative_root {root}.")
    return path.relative_to(root).as_posix()
