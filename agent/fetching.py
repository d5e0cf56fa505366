"""What workers ask their agent for: references become local paths, which stay while the worker may use them.

worker ──FETCH──▶ Fetching ──by scheme──▶ Resolver ──▶ a datastore's file, a model, a dataset
worker ◀─FETCHED─ all paths, or one sentence, or "later" with one: a full disk here, a datastore that is away or slow
                  are no fault of an item, which is read again once they are over
"""

from __future__ import annotations

import asyncio
import errno
import json
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog

from batchmesh.data.slices import decode_slice
from batchmesh.errors import BatchmeshError, DatastoreFailed, DiskFull, MeshUnreachable

from .asking import wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .opening import Opening
    from .storages import Storage

log = structlog.get_logger()

#: Seconds after which a worker is answered, or half of what it may take to read if that is less.
_PATIENCE = 10.0
#: What somebody has to mend on this host, as no item can.
_OF_THE_HOST = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE})
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
        self._tasks: set[asyncio.Task[Any]] = set()

    def serve(self, scheme: str, resolver: Resolver) -> None:
        """From now on `resolver` answers for references that begin with `scheme`://."""
        self._resolvers[scheme] = resolver

    def answer(self, worker: Waiting, asker: Asker, body: bytes, held_up: Callable[[str], None]) -> None:
        """Sees to it that the worker is answered, which this does not wait for. `body` is that of FETCH; `held_up` gets
        the sentence of what has to be waited for, and an empty one when nothing has."""
        wish = json.loads(body)
        references = wish["references"]
        stamps = wish.get("stamps") or [""] * len(references)
        self._spawn(self._answer(worker, asker, references, stamps, held_up))

    def ahead(self, asker: Asker, payload: bytes) -> None:
        """Begins to fetch the files of a mini-batch that waits for a worker, so that they are here by then."""
        if _REMOTE in payload:
            for each in self._begun(asker, *wanted(decode_slice(payload))):
                each.add_done_callback(_let_go)  # what fails is told to the worker, which asks again

    async def resolve(self, asker: Asker, reference: str, stamp: str = "") -> Resolved:
        """Errors: BatchmeshError and OSError; NotFetched for a scheme that nobody serves."""
        resolver = self._resolvers.get(reference.partition("://")[0])
        if resolver is None:
            schemes = ", ".join(f"{each}://" for each in self._resolvers)
            raise NotFetched(f"a node fetches only what begins with {schemes}")
        return await resolver.resolve(asker, reference, stamp)

    def _begun(self, asker: Asker, references: list[str], stamps: list[str]) -> list[asyncio.Task[Resolved]]:
        pairs = zip(references, stamps, strict=True)
        tasks = [asyncio.create_task(self.resolve(asker, *each)) for each in pairs]
        for each in tasks:
            self._tasks.add(each)
            each.add_done_callback(self._tasks.discard)
        return tasks

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self,
        worker: Waiting,
        asker: Asker,
        references: list[str],
        stamps: list[str],
        held_up: Callable[[str], None],
    ) -> None:
        tasks = self._begun(asker, references, stamps)
        await asyncio.wait(tasks, timeout=min(_PATIENCE, asker.opening.limits.task_overhead_timeout / 2))
        failed = [(reference, _error_of(task)) for reference, task in zip(references, tasks, strict=True)]
        reference, error = next((each for each in failed if each[1] is not None), ("", None))
        if error is None:
            found = [each.result() for each in tasks]
            held_up("")
            worker.take_fetched({"paths": [each.path for each in found]}, [each.release for each in found])
            return
        for each in tasks:  # one that goes on is joined by who asks again
            each.add_done_callback(_let_go)
        sentence, later = _sentence(reference, error), _is_no_fault_of_it(error)
        held_up(sentence if later else "")
        worker.take_fetched({"error": sentence, "later": later}, [])


def _let_go(task: asyncio.Task[Resolved]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().release()


def _error_of(task: asyncio.Task[Resolved]) -> BaseException | None:
    return task.exception() if task.done() else _Slow("it is still on its way")


def _is_no_fault_of_it(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _OF_THE_HOST
    return isinstance(error, _Slow | DatastoreFailed | DiskFull | MeshUnreachable)


class _Slow(BatchmeshError):
    """A fetch that takes longer than a worker waits."""


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
