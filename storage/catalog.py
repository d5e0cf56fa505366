"""The catalog: what names stand for in each workspace, one small durable file for each version of each name.

    register ──check──▶ newest version the same? ──no──▶ root/catalog/<workspace>/<kind>/<name>/<version>.json

Credentials of datastores lie in those files, which only their owner can read; they leave by `credentials` alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from google.protobuf import json_format

from batchmesh.entries import (
    DEFAULT_DATASTORE,
    DEFAULT_WORKSPACE,
    AzureBlobContainer,
    Entry,
    EntryKind,
    LocalFolder,
    Model,
)
from batchmesh.entry_messages import entry_of, entry_to_proto
from batchmesh.errors import BadEntry, EntryExists, NoArtifact, NoEntry
from batchmesh.v1 import catalog_pb2

from .admission import check_entry, check_name, datastores_of
from .disk import make_folder, read_record, said_clearly, write_durably

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .places import Places

#: Of what may hold a credential: nobody but the owner reads it.
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_VERSION = re.compile(r"([1-9][0-9]{0,8})\.json")
#: Bytes of one entry; several have to fit into a message.
ENTRY_LIMIT = 256 * 1024
#: Names of one kind in a workspace, and versions of one name; without a limit a loop would fill the disk.
COUNT_LIMIT = 10_000


class Catalog:
    """The entries of all workspaces. All of it blocks; an empty workspace is the default one.

    `has_artifact` tells whether storage has the artifact of a model.
    """

    def __init__(self, places: Places, has_artifact: Callable[[str], bool]) -> None:
        self._places = places
        self._has_artifact = has_artifact
        self._lock = threading.Lock()
        make_folder(places.catalog, _FOLDER_MODE)
        places.catalog.chmod(_FOLDER_MODE)

    def register(self, entry: Entry, *, overwrite: bool) -> Entry:
        """The entry as it is kept now, without credentials. The content of the newest version is not kept twice; a
        description and tags that come with it take the place of those it had.

        Errors: BadName, BadEntry, EntryExists, NoArtifact, DiskFull.
        """
        check_entry(entry)
        with self._lock:
            self._check_named(entry)
            kept = self._kept_as(entry, overwrite)
            self._write(kept)
        return _public(kept)

    def get(self, workspace: str, kind: EntryKind, name: str, version: int = 0) -> Entry:
        """One version, the newest for 0, without credentials. Errors: BadName, NoEntry."""
        return _public(self._find(workspace or DEFAULT_WORKSPACE, kind, name, version))

    def entries(self, workspace: str, kind: EntryKind, name: str = "") -> Iterator[Entry]:
        """The newest version of each name, or all versions of one, by name and version; without credentials.

        Errors: BadName.
        """
        workspace = workspace or DEFAULT_WORKSPACE
        check_name("workspace", workspace)
        if name:
            check_name(kind, name)
        for each in [name] if name else self._names(workspace, kind):
            versions = self._versions(workspace, kind, each)
            for version in versions if name else versions[-1:]:
                if found := self._read(workspace, kind, each, version):
                    yield _public(found)

    def credentials(self, workspace: str, name: str = "") -> Entry:
        """A datastore with what opens it; the default one, whose folder is there then, for no name.

        Errors: BadName, NoEntry, DiskFull.
        """
        found = self._find(workspace or DEFAULT_WORKSPACE, EntryKind.DATASTORE, name or DEFAULT_DATASTORE)
        if found.content == self._default_content(found.workspace):
            with said_clearly(self._places.datastore):
                make_folder(self._places.datastore / found.workspace)
        return found

    def artifacts(self) -> set[str]:
        """The digests that models name, in all their versions: they are never trimmed."""
        return {
            found.content.digest
            for workspace in _names_in(self._places.catalog)
            for name in self._names(workspace, EntryKind.MODEL)
            for version in self._versions(workspace, EntryKind.MODEL, name)
            if (found := self._read(workspace, EntryKind.MODEL, name, version)) and isinstance(found.content, Model)
        }

    def _check_named(self, entry: Entry) -> None:
        """What the entry names has to be there."""
        if isinstance(entry.content, Model) and not self._has_artifact(entry.content.digest):
            raise NoArtifact(
                f"Storage has no artifact {entry.content.digest} for the model '{entry.name}'; send it first."
            )
        for datastore in datastores_of(entry):
            if not self._versions(entry.workspace, EntryKind.DATASTORE, datastore):
                raise BadEntry(
                    f"The dataset '{entry.name}' names the datastore '{datastore}', which workspace "
                    f"'{entry.workspace}' does not have; register it first."
                )

    def _kept_as(self, entry: Entry, overwrite: bool) -> Entry:
        """The newest version with what the entry says of it, if the content is the same; else the next one."""
        versions = self._versions(entry.workspace, entry.kind, entry.name)
        newest = self._read(entry.workspace, entry.kind, entry.name, versions[-1]) if versions else None
        if newest and newest.content == entry.content:
            tags, description = entry.tags or newest.tags, entry.description or newest.description
            return dataclasses.replace(newest, tags=tags, description=description)
        if versions and not overwrite:
            raise EntryExists(
                f"Workspace '{entry.workspace}' has another {entry.kind} '{entry.name}'; choose another name, or "
                f"ask to {'overwrite it' if entry.kind is EntryKind.DATASTORE else 'make a new version of it'}."
            )
        version = 1 if entry.kind is EntryKind.DATASTORE or not versions else versions[-1] + 1
        if version > COUNT_LIMIT or (not versions and len(self._names(entry.workspace, entry.kind)) >= COUNT_LIMIT):
            raise BadEntry(
                f"There are {COUNT_LIMIT} {entry.kind}s already, or versions of '{entry.name}'; take another."
            )
        return dataclasses.replace(entry, version=version, registered=datetime.now(UTC))

    def _write(self, entry: Entry) -> None:
        record = json.dumps(json_format.MessageToDict(entry_to_proto(entry))).encode()
        if len(record) > ENTRY_LIMIT:
            raise BadEntry(
                f"The {entry.kind} '{entry.name}' takes {len(record)} bytes, and may take {ENTRY_LIMIT}; name folders "
                "or globs rather than files, and shorten its tags."
            )
        path = self._path(entry.workspace, entry.kind, entry.name, entry.version)
        with said_clearly(path):
            make_folder(path.parent, _FOLDER_MODE)
            write_durably(path, record, _FILE_MODE)

    def _find(self, workspace: str, kind: EntryKind, name: str, version: int = 0) -> Entry:
        check_name("workspace", workspace)
        check_name(kind, name)
        versions = self._versions(workspace, kind, name)
        wanted = version or (versions[-1] if versions else 0)
        found = self._read(workspace, kind, name, wanted) if wanted in versions else None
        if found is None:
            raise NoEntry(_missing(workspace, kind, name, version, versions))
        return found

    def _read(self, workspace: str, kind: EntryKind, name: str, version: int) -> Entry | None:
        """None for a version that is not there, or whose file is damaged, which is logged."""
        path = self._path(workspace, kind, name, version)
        record = read_record(path)
        if record is not None:
            return _entry_in(record, path)
        if (kind, name, version) == (EntryKind.DATASTORE, DEFAULT_DATASTORE, 1) and not path.exists():
            return Entry(name, self._default_content(workspace), 1, workspace)
        return None

    def _versions(self, workspace: str, kind: EntryKind, name: str) -> list[int]:
        folder = self._places.catalog / workspace / kind / name
        found = sorted(int(match[1]) for each in _names_in(folder) if (match := _VERSION.fullmatch(each)))
        return found or ([1] if (kind, name) == (EntryKind.DATASTORE, DEFAULT_DATASTORE) else [])

    def _names(self, workspace: str, kind: EntryKind) -> list[str]:
        found = set(_names_in(self._places.catalog / workspace / kind))
        return sorted(found | {DEFAULT_DATASTORE} if kind is EntryKind.DATASTORE else found)

    def _path(self, workspace: str, kind: EntryKind, name: str, version: int) -> Path:
        return self._places.catalog / workspace / kind / name / f"{version}.json"

    def _default_content(self, workspace: str) -> LocalFolder:
        return LocalFolder(str(self._places.datastore / workspace))


def _entry_in(record: dict[str, Any], path: Path) -> Entry | None:
    try:
        return entry_of(json_format.ParseDict(record, catalog_pb2.CatalogEntry(), ignore_unknown_fields=True))
    except (json_format.ParseError, BadEntry):  # what it says could be a secret
        structlog.get_logger().error("record_damaged", path=str(path))
        return None


def _missing(workspace: str, kind: EntryKind, name: str, version: int, versions: Sequence[int]) -> str:
    if not versions:
        return f"Workspace '{workspace}' has no {kind} '{name}'; check the name, or register it."
    if version in (0, *versions):
        return (
            f"Version {version or versions[-1]} of the {kind} '{name}' is damaged on storage's disk; register it again."
        )
    return f"Workspace '{workspace}' has no version {version} of {kind} '{name}'; the newest is {versions[-1]}."


def _public(entry: Entry) -> Entry:
    if isinstance(entry.content, AzureBlobContainer):
        return dataclasses.replace(entry, content=dataclasses.replace(entry.content, account_key="", sas_token=""))
    return entry


def _names_in(folder: Path) -> list[str]:
    """The names that we have given; nothing for a folder that is not there."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []
