"""Between messages and values: the entries of the catalog."""

from __future__ import annotations

import dataclasses
from datetime import UTC
from typing import TYPE_CHECKING, Any

from batchmesh.entries import (
    DEFAULT_WORKSPACE,
    AzureBlobContainer,
    Dataset,
    Entry,
    EntryKind,
    LocalFolder,
    Model,
)
from batchmesh.errors import BadEntry
from batchmesh.python_environment import PythonEnvironment
from batchmesh.v1 import catalog_pb2, job_pb2, storage_pb2

if TYPE_CHECKING:
    from batchmesh.entries import Content


def entry_to_proto(entry: Entry) -> catalog_pb2.CatalogEntry:
    """With its credentials, if it has any. Errors: BadEntry for a value that no message can hold."""
    try:
        proto = catalog_pb2.CatalogEntry(
            workspace=entry.workspace,
            name=entry.name,
            version=entry.version,
            description=entry.description,
            tags=dict(entry.tags),
            **_content_to_proto(entry.content),
        )
    except (TypeError, ValueError):
        kind = entry.kind
        raise BadEntry(f"The {kind} '{entry.name}' has a value of the wrong type, or out of its range.") from None
    if entry.registered is not None:
        proto.registered.FromDatetime(entry.registered)
    return proto


def entry_of(proto: catalog_pb2.CatalogEntry) -> Entry:
    """Errors: BadEntry for one that does not say what it is."""
    return Entry(
        name=proto.name,
        content=_content_of(proto),
        version=proto.version,
        workspace=proto.workspace or DEFAULT_WORKSPACE,
        registered=proto.registered.ToDatetime(tzinfo=UTC) if proto.HasField("registered") else None,
        description=proto.description,
        tags=dict(proto.tags),
    )


def kind_to_proto(kind: EntryKind) -> storage_pb2.EntryKind.ValueType:
    return storage_pb2.EntryKind.Value(f"ENTRY_KIND_{kind.name}")


def kind_of(number: storage_pb2.EntryKind.ValueType) -> EntryKind:
    """Errors: BadEntry for a number that is no kind."""
    for kind in EntryKind:
        if kind_to_proto(kind) == number:
            return kind
    raise BadEntry(f"There is no kind of entry {number}; it is one of {', '.join(EntryKind)}.")


def _content_to_proto(content: Content) -> dict[str, Any]:
    match content:
        case LocalFolder(path):
            return {"datastore": catalog_pb2.Datastore(local=catalog_pb2.LocalFolder(path=path))}
        case AzureBlobContainer():
            blob = catalog_pb2.AzureBlobContainer(**dataclasses.asdict(content))
            return {"datastore": catalog_pb2.Datastore(azure_blob=blob)}
        case Dataset():
            kind = job_pb2.InputKind.Value(f"INPUT_KIND_{content.kind.upper()}")
            return {"dataset": catalog_pb2.Dataset(**{**dataclasses.asdict(content), "kind": kind})}
        case Model():
            return {"model": catalog_pb2.Model(**dataclasses.asdict(content))}
        case PythonEnvironment():
            return {"environment": job_pb2.Environment(**dataclasses.asdict(content))}


def _content_of(proto: catalog_pb2.CatalogEntry) -> Content:
    match proto.WhichOneof("kind"):
        case "datastore" if proto.datastore.HasField("local"):
            return LocalFolder(proto.datastore.local.path)
        case "datastore" if proto.datastore.HasField("azure_blob"):
            blob = proto.datastore.azure_blob
            return AzureBlobContainer(blob.container, blob.account, blob.endpoint, blob.account_key, blob.sas_token)
        case "dataset":
            found = proto.dataset
            kind = job_pb2.InputKind.Name(found.kind).removeprefix("INPUT_KIND_").lower()
            return Dataset(kind, tuple(found.paths), found.csv_header, dict(found.csv_types))
        case "model":
            return Model(proto.model.digest, proto.model.file, proto.model.size)
        case "environment":
            env = proto.environment
            return PythonEnvironment(env.name, tuple(env.requirements), env.interpreter_path, env.user_managed)
        case _:
            raise BadEntry(
                f"The entry '{proto.name}' does not say what it is: a datastore, dataset, model or environment."
            )
