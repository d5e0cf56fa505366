"""The calls of StorageService that are about the catalog. What touches the disk runs on threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from batchmesh.entry_messages import entry_of, entry_to_proto, kind_of
from batchmesh.v1 import storage_pb2, storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from grpc import aio

    from batchmesh.entries import Entry
    from batchmesh.v1 import catalog_pb2

    from .catalog import Catalog

    Context = aio.ServicerContext[Any, Any]

#: Bytes of entries in one answer; one more entry may come on top.
_PAGE = 512 * 1024


class CatalogService(storage_pb2_grpc.StorageServiceServicer):
    """To be inherited by the service, which sets `_catalog`."""

    _catalog: Catalog

    async def RegisterEntry(
        self, request: storage_pb2.RegisterEntryRequest, context: Context
    ) -> storage_pb2.RegisterEntryResponse:
        entry = entry_of(request.entry)
        kept = await asyncio.to_thread(self._catalog.register, entry, overwrite=request.overwrite)
        return storage_pb2.RegisterEntryResponse(entry=entry_to_proto(kept))

    async def GetEntry(self, request: storage_pb2.GetEntryRequest, context: Context) -> storage_pb2.GetEntryResponse:
        kind = kind_of(request.kind)
        found = await asyncio.to_thread(self._catalog.get, request.workspace, kind, request.name, request.version)
        return storage_pb2.GetEntryResponse(entry=entry_to_proto(found))

    async def ListEntries(
        self, request: storage_pb2.ListEntriesRequest, context: Context
    ) -> AsyncIterator[storage_pb2.ListEntriesResponse]:
        pages = _pages(self._catalog.entries(request.workspace, kind_of(request.kind), request.name))
        while page := await asyncio.to_thread(next, pages, None):
            yield storage_pb2.ListEntriesResponse(entries=page)

    async def GetCredentials(
        self, request: storage_pb2.GetCredentialsRequest, context: Context
    ) -> storage_pb2.GetCredentialsResponse:
        found = await asyncio.to_thread(self._catalog.credentials, request.workspace, request.datastore)
        return storage_pb2.GetCredentialsResponse(entry=entry_to_proto(found))


def _pages(entries: Iterator[Entry]) -> Iterator[list[catalog_pb2.CatalogEntry]]:
    """Pieces of a listing, each far below the limit of a message."""
    page: list[catalog_pb2.CatalogEntry] = []
    size = 0
    for proto in map(entry_to_proto, entries):
        page.append(proto)
        size += proto.ByteSize()
        if size >= _PAGE:
            yield page
            page, size = [], 0
    if page:
        yield page
