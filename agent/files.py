"""Files and folders of datastores on this node, for workers that read them and for what is staged beside a job.

reference ──GetCredentials──▶ datastore ──┬─ of this host: its own path
            (kept for a minute)           └─ remote: find, download (threads) ──▶ cache under the work folder
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import grpc

from batchmesh import calls, status
from batchmesh.datastores.opening import open_datastore
from batchmesh.datastores.reference import parse
from batchmesh.datastores.staging import Staging
from batchmesh.entry_messages import entry_of
from batchmesh.v1 import storage_pb2

from .fetching import NotFetched, Resolved
from .threads import on_a_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchmesh.datastores.cache import Cache
    from batchmesh.datastores.reference import Reference
    from batchmesh.datastores.store import Datastore, Found
    from batchmesh.entries import Entry

    from .fetching import Asker
    from .storages import Storage

_Thing = TypeVar("_Thing")

#: Seconds for which an opened datastore serves before its credentials are asked for anew; and for how much longer it
#: does while storage does not answer.
_FRESH, _STALE = 60.0, 3600.0
#: Threads: most of them wait for a fetch that another one does, for the cache bounds how many fetch at once.
_THREADS = 64


class Files:
    """Resolves datastore:// references, for any number of workers at once. Lives on the event loop."""

    def __init__(
        self,
        cache: Cache,
        patience: float,
        opened: Callable[[Entry], Datastore] = open_datastore,
        fresh: float = _FRESH,
    ) -> None:
        """`patience` is how long a storage that does not answer is asked for credentials, in seconds; `opened` makes a
        datastore of what it answers, which serves `fresh` seconds before storage is asked anew."""
        self._cache = cache
        self._patience = patience
        self._make = opened
        self._fresh = fresh
        self._room = asyncio.Semaphore(_THREADS)
        self._opened: dict[tuple[Storage, str, str], _Opened] = {}

    async def resolve(self, asker: Asker, reference: str, stamp: str) -> Resolved:
        """The file or folder, whole, under its own name; a local datastore's where it is.

        Errors: SpecRefused, NoEntry, BadEntry, DatastoreFailed, InputRefused, NotFetched, TooLarge, MeshUnreachable,
        OSError.
        """
        wanted = parse(reference)
        if wanted is None:
            raise NotFetched("it is not of the form datastore://NAME/PATH")
        datastore = await self.open(asker.storage, asker.opening.workspace, wanted.datastore)
        here = datastore.local(wanted.path)
        if here is not None:
            return Resolved(_existing(here), _nothing)
        staging = Staging(self._cache, asker.opening.workspace, datastore)
        stage = partial(staging.file, stamp=stamp) if stamp else staging.file_or_folder
        held = (await self._off_loop(partial(stage, wanted.path))).held
        return Resolved(str(held.path), held.release)

    async def find(self, asker: Asker, reference: Reference, most: int) -> list[Found]:
        """The first files that a reference means, `most` of them at most. Errors: as of `resolve`."""
        datastore = await self.open(asker.storage, asker.opening.workspace, reference.datastore)

        def listed() -> list[Found]:
            return list(itertools.islice(datastore.find(reference.path), most))

        return await self._off_loop(listed)

    async def _off_loop(self, work: Callable[[], _Thing]) -> _Thing:
        async with self._room:
            return await on_a_thread(work, "fetch")

    async def open(self, storage: Storage, workspace: str, name: str) -> Datastore:
        """All that ask at once share one question. While storage is away, what it said last counts.

        Errors: NoEntry, BadEntry, MeshUnreachable.
        """
        now = time.monotonic()
        self._opened = {
            key: each for key, each in self._opened.items() if each.until + _STALE > now and not each.failed
        }
        key = (storage, workspace, name)
        last = self._opened.get(key)
        if last is None or (last.until <= now and last.task.done()):
            asking = asyncio.create_task(self._ask(storage, workspace, name, last.task.result() if last else None))
            self._opened[key] = _Opened(now + self._fresh, asking)
        return await asyncio.shield(self._opened[key].task)

    async def _ask(self, storage: Storage, workspace: str, name: str, known: Datastore | None) -> Datastore:
        request = storage_pb2.GetCredentialsRequest(workspace=workspace, datastore=name)
        ask = calls.retried(0.0 if known else self._patience)(storage.GetCredentials)
        try:
            got = await ask(request, timeout=calls.UNARY_DEADLINE)
        except grpc.RpcError as error:
            if known is not None and calls.is_transient(error):
                return known
            raise status.from_rpc_error(error, "Storage") from None
        return await asyncio.to_thread(self._make, entry_of(got.entry))


class _Opened(NamedTuple):
    until: float
    task: asyncio.Task[Datastore]

    @property
    def failed(self) -> bool:
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)


def _existing(path: str) -> str:
    if not os.path.exists(path):
        raise NotFetched(f"there is no {path}")
    return path


def _nothing() -> None:
    """What lies here anyway is not held."""
