"""What workers ask for by its name in the workspace: models, and the files of datasets.

model://NAME/VERSION ────▶ GetEntry ──▶ its artifact, from the cache ──▶ the file or folder
dataset://NAME/VERSION ──▶ GetEntry ──▶ its files listed, those of remote datastores fetched ──▶ a file of JSON that
                                        says what kind the dataset is of and where its files are
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from batchmesh import calls, status
from batchmesh.data import listing
from batchmesh.datastores.reference import Reference, parse
from batchmesh.entries import Dataset, EntryKind, Model
from batchmesh.entry_messages import entry_of, kind_to_proto
from batchmesh.v1 import storage_pb2

from .fetching import NotFetched, Resolved

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh.entries import Entry

    from .artifacts import Artifacts
    from .fetching import Asker
    from .files import Files

#: Files of a dataset that a worker may ask for. More are an input of a job.
MAX_FILES = 20_000
_MAGIC = frozenset("*?[")


class Models:
    """Resolves model:// for models that a job does not name."""

    def __init__(self, artifacts: Artifacts, patience: float) -> None:
        """`patience` is how long a storage that does not answer is asked, in seconds."""
        self._artifacts = artifacts
        self._patience = patience

    async def resolve(self, asker: Asker, reference: str, stamp: str) -> Resolved:
        """The file, or the folder. Errors: NoEntry, BadName, NotFetched, and those of Artifacts.hold."""
        del stamp
        model = (await _entry(asker, EntryKind.MODEL, reference, self._patience)).content
        assert isinstance(model, Model)
        folder = await self._artifacts.hold(asker.storage, model.digest)
        path = folder / model.file if model.file else folder
        return Resolved(str(path), lambda: self._artifacts.release(model.digest))


class Datasets:
    """Resolves dataset://. `folder` is its alone."""

    def __init__(self, folder: Path, files: Files, patience: float) -> None:
        """`patience` is as for Models."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._files = files
        self._patience = patience

    async def resolve(self, asker: Asker, reference: str, stamp: str) -> Resolved:
        """What azureml.core.Dataset is made from. Errors: NoEntry, BadName, NotFetched, those of Files.resolve."""
        del stamp
        entry = await _entry(asker, EntryKind.DATASET, reference, self._patience)
        dataset = entry.content
        assert isinstance(dataset, Dataset)
        members = [each for path in dataset.paths for each in await self._members(asker, path)]
        if len(members) > MAX_FILES:
            raise NotFetched(f"it has more than {MAX_FILES:,} files; make it an input of the job")
        found = await self._fetched(asker, members)
        description = _described(
            entry.version, dataset, [(m.name, r.path) for m, r in zip(members, found, strict=True)]
        )
        path = await asyncio.to_thread(self._written, description)

        def release() -> None:
            os.unlink(path)
            for each in found:
                each.release()

        return Resolved(path, release)

    async def _members(self, asker: Asker, path: str) -> list[_Member]:
        """At most one more than there may be."""
        reference = parse(path)
        if reference is None:
            return await asyncio.to_thread(_local_members, path)
        found = await self._files.find(asker, reference, MAX_FILES + 1)
        return [
            _Member(name_in(reference.path, each.path), str(Reference(reference.datastore, each.path)), each.stamp)
            for each in found
        ]

    async def _fetched(self, asker: Asker, members: list[_Member]) -> list[Resolved]:
        """All of them, or none is held."""
        wanted = [self._one(asker, each) for each in members]
        found = await asyncio.gather(*wanted, return_exceptions=True)
        resolved = [each for each in found if isinstance(each, Resolved)]
        for error in found:
            if isinstance(error, BaseException):
                for each in resolved:
                    each.release()
                raise error
        return resolved

    async def _one(self, asker: Asker, member: _Member) -> Resolved:
        if member.place.startswith("/"):
            return Resolved(member.place, lambda: None)
        return await self._files.resolve(asker, member.place, member.stamp)

    def _written(self, description: dict[str, Any]) -> str:
        fd, path = tempfile.mkstemp(dir=self._folder)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(description, file)
        return path


class _Member(NamedTuple):
    """A file of a dataset: its name within it, its path or reference, and what it is now."""

    name: str
    place: str
    stamp: str = ""


def name_in(path: str, file: str) -> str:
    """What a file is called within a dataset of that path: a file, a folder, or a glob."""
    if file == path:
        return os.path.basename(file)
    fixed = path.rstrip("/")
    while not _MAGIC.isdisjoint(fixed):
        fixed = os.path.dirname(fixed)
    return os.path.relpath(file, fixed) if fixed else file


def _local_members(path: str) -> list[_Member]:
    members: list[_Member] = []
    try:
        for each in listing.list_input(path):
            members.append(_Member(name_in(path, each), each))
            if len(members) > MAX_FILES:
                break
    except ValueError as error:
        raise NotFetched(str(error)) from None
    return members


def _described(version: int, dataset: Dataset, files: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "version": version,
        "kind": dataset.kind,
        "csv_header": dataset.csv_header,
        "csv_types": dict(dataset.csv_types),
        "files": files,
    }


async def _entry(asker: Asker, kind: EntryKind, reference: str, patience: float) -> Entry:
    """The entry that SCHEME://NAME/VERSION names in the job's workspace. Errors: NoEntry, BadName, NotFetched."""
    name, _, version = reference.partition("://")[2].partition("/")
    if not (version or "0").isdecimal():
        raise NotFetched(f"'{version}' is no version; it is a number from 1")
    request = storage_pb2.GetEntryRequest(
        workspace=asker.opening.workspace, kind=kind_to_proto(kind), name=name, version=int(version or 0)
    )
    try:
        got = await calls.retried(patience)(asker.storage.GetEntry)(request, timeout=calls.UNARY_DEADLINE)
    except grpc.RpcError as error:
        raise status.from_rpc_error(error, "Storage") from None
    return entry_of(got.entry)
