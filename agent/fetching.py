"""What workers ask their agent for: references become local paths, which stay while the worker may use them.

worker ──FETCH──▶ Fetching ──by scheme──▶ Resolver ──▶ a datastore's file, a model, a dataset
worker ◀─FETCHED─ all paths, or one sentence
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog

from batchmesh.errors import BatchmeshError

from .asking import wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .opening import Opening
    from .storages import Storage

log = structlog.get_logger()

#: In each slice that names a file of a datastore, and in hardly another.
_REMOTE = b'"datastore://'


class Asker(NamedTuple):
    """On whose behalf something is fetched: the job, and the storage that knows what its names stand for."""

    opening: Opening
    storage: Storage


class Resolved(NamedTuple):
    """Where a reference lies on this node, until `release` has been called."""

    path: str
    release: Callable[[], None]


class Resolver(Protocol):
    """Has what the references of one scheme name on this node."""

    async def resolve(self, asker: Asker, reference: str, stamp: str) -> Resolved:
        """`stamp` is what the file was when the job was planned; "" takes what is there.

        Errors: BatchmeshError and OSError, whose text the worker is told behind the reference.
        """


class Waiting(Protocol):
    """The worker that waits for an answer."""

    def take_fetched(self, answer: dict[str, Any], releases: list[Callable[[], None]]) -> None:
        """`releases` are to be called once the worker cannot use the paths of the answer any more."""


class Fetching:
    """Answers FETCH. Lives on the event loop; resolvers do what takes long on threads."""

    def __init__(self) -> None:
        self._resolvers: dict[str, Resolver] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, scheme: str, resolver: Resolver) -> None:
        """From now on `resolver` answers for references that begin with `scheme`://."""
        self._resolvers[scheme] = resolver

    def answer(self, worker: Waiting, asker: Asker, body: bytes) -> None:
        """Sees to it that the worker is answered, which this does not wait for. `body` is that of FETCH."""
        wish = json.loads(body)
        references = wish["references"]
        stamps = wish.get("stamps") or [""] * len(references)
        self._spawn(self._answer(worker, asker, references, stamps))

    def ahead(self, asker: Asker, payload: bytes) -> None:
        """Begins to fetch the files of a mini-batch that waits for a worker, so that they are here by then."""
        if _REMOTE in payload:
            self._spawn(self._fetch_ahead(asker, *wanted(json.loads(payload))))

    async def _fetch_ahead(self, asker: Asker, references: list[str], stamps: list[str]) -> None:
        """What fails is told to the worker, which asks again."""
        for each in await self._resolved(asker, references, stamps):
            if isinstance(each, Resolved):
                each.release()

    async def resolve(self, asker: Asker, reference: str, stamp: str = "") -> Resolved:
        """Errors: BatchmeshError and OSError; NotFetched for a scheme that nobody serves."""
        resolver = self._resolvers.get(reference.partition("://")[0])
        if resolver is None:
            schemes = ", ".join(f"{each}://" for each in self._resolvers)
            raise NotFetched(f"a node fetches only what begins with {schemes}")
        return await resolver.resolve(asker, reference, stamp)

    async def _resolved(self, asker: Asker, references: list[str], stamps: list[str]) -> list[Resolved | BaseException]:
        pairs = zip(references, stamps, strict=True)
        return await asyncio.gather(*[self.resolve(asker, *each) for each in pairs], return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, worker: Waiting, asker: Asker, references: list[str], stamps: list[str]) -> None:
        found = await self._resolved(asker, references, stamps)
        resolved = [each for each in found if isinstance(each, Resolved)]
        if len(resolved) == len(references):
            worker.take_fetched({"paths": [each.path for each in resolved]}, [each.release for each in resolved])
            return
        for each in resolved:
            each.release()
        at, error = next((at, each) for at, each in enumerate(found) if isinstance(each, BaseException))
        worker.take_fetched({"error": _sentence(references[at], error)}, [])


class NotFetched(BatchmeshError):
    """What a worker asked for is not on this node, and cannot be had."""


def _sentence(reference: str, error: BaseException) -> str:
    why = str(error)
    if isinstance(error, OSError):
        why = error.strerror or why
    elif not isinstance(error, BatchmeshError):
        log.error("fetch_failed", reference=reference, exc_info=error)
        why = f"{type(error).__name__}: {error}"
    return why if reference in why else f"{reference} cannot be fetched: {why}"
