"""What the scripts of one job write to a folder of this node that stands for its output, on its way to storage.

    results ──add──▶ wait ──▶ what has changed in the folder ──WriteOutputFile──▶ storage ──▶ sent(results)

One round at a time; results that come meanwhile wait for the next one, which finds what their scripts have written. A
storage that is away or full is asked again for as long as anyone wants the results.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import time
from typing import TYPE_CHECKING, BinaryIO

import grpc
import structlog

from batchmesh import calls, errors, status
from batchmesh.v1 import storage_pb2

from .changes import Change, Changes
from .frames import Failure, Kind
from .uploader import FOR_SOMEONE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from .fetching import Asker
    from .runner import Result
    from .waiting import Held

#: Changes that are looked for at a time.
_PAGE = 1000
_BACKOFF_FIRST, _BACKOFF_LAST = 0.05, 2.0
#: Bytes a second at which a file is to be sent at least.
_SLOWEST = 2**18

log = structlog.get_logger()


class _Unsendable(Exception):
    """A file that no repetition brings to storage; the text is the rest of a sentence."""


class _GivenUp(Exception):
    """Storage takes nothing, and nobody waits for it any more."""


class OutputFiles:
    """Lives on the event loop."""

    def __init__(
        self,
        asker: Asker,
        folder: Path,
        sent: Callable[[list[Result]], None],
        refused: Callable[[list[Result], Failure], None],
        held_up: Callable[[str], None],
        patience: float,
    ) -> None:
        """`folder` is made, and is its own. `sent` gets results once all that their scripts had written is with
        storage, `refused` those whose files storage will not take; `held_up` is as an Uploader's. Once all workers have
        ended, a storage that takes nothing is given up after `patience` seconds."""
        folder.mkdir(parents=True)
        self.folder = folder
        self._storage = asker.storage
        self._job_id = asker.opening.job_id
        self._sent = sent
        self._refused = refused
        self._held_up = held_up
        self._patience = patience
        self._changes = Changes(folder)
        self._pending: list[Result] = []
        #: Those that the present round is for.
        self._group: list[Result] = []
        self._wake = asyncio.Event()
        self._dropped = asyncio.Event()
        self._finishing = self._told_why = False
        self._task = asyncio.create_task(self._run())

    def add(self, results: list[Result]) -> None:
        self._pending += results
        self._wake.set()

    @property
    def empty(self) -> bool:
        """Nothing waits and nothing is on its way."""
        return not self._pending and not self._group

    def held(self) -> Iterator[Held]:
        """The attempts whose files are not with storage yet."""
        for each in (*self._group, *self._pending):
            yield each.attempt.attempt_id, each.attempt.mini_batch, each.attempt.part

    def drop(self) -> None:
        """Nobody wants the files any more: the present round ends, and there is no other."""
        self._pending.clear()
        self._dropped.set()
        self._wake.set()

    async def finish(self) -> None:
        """All workers have ended: sends what they have still written, unless dropped, and removes the folder."""
        self._finishing = True
        self._wake.set()
        await self._task
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _run(self) -> None:
        while not self._dropped.is_set():
            await self._wake.wait()
            self._wake.clear()
            last = self._finishing
            if self._pending or last:
                await self._round()
            if last:
                return

    async def _round(self) -> None:
        self._group, self._pending = self._pending, []
        why = await self._problem()
        group, self._group = self._group, []
        if why:
            log.warning("output_not_sent", job=self._job_id, error=why)
            sentence = f"What the script has written under --output cannot be kept: {why}"
            self._refused(group, Failure(Kind.BAD_RESULT, sentence))
        elif not self._dropped.is_set():
            self._sent(group)

    async def _problem(self) -> str:
        """Sends what has changed; why that is impossible, or nothing.

        A file that cannot be sent is removed, so that it fails this round alone: a script that runs again writes it
        again.
        """
        look, why = self._changes.look(), ""
        try:
            while page := await asyncio.to_thread(lambda: list(itertools.islice(look, _PAGE))):
                for change in page:
                    try:
                        if not await self._send_for_long(change):
                            return ""
                        self._changes.told(change)
                    except (_Unsendable, OSError) as error:
                        why = why or str(error)
                        await asyncio.to_thread(self._remove, change.name)
        except (_GivenUp, OSError) as error:
            return str(error)
        except Exception as error:  # results that wait for ever are worse than any error
            log.exception("output_not_sent", job=self._job_id)
            return f"{type(error).__name__}: {error}"
        return why

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self.folder / name).unlink()

    async def _send_for_long(self, change: Change) -> bool:
        """Whether it was sent: not if nobody wants it any more. Raises _Unsendable, _GivenUp, OSError."""
        backoff, since = _BACKOFF_FIRST, time.monotonic()
        while not self._dropped.is_set():
            try:
                await self._send(change)
            except grpc.RpcError as error:
                self._take_in(status.from_rpc_error(error, "Storage"), since)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._dropped.wait(), backoff * random.uniform(0.5, 1.0))  # noqa: S311
                backoff = min(_BACKOFF_LAST, backoff * 2)
                continue
            if self._told_why:
                self._told_why = False
                self._held_up("")
            return True
        return False

    def _take_in(self, cause: errors.BatchmeshError, since: float) -> None:
        """Why something was not sent, which was first tried at `since`. Raises _Unsendable when no repetition helps,
        _GivenUp when there is none."""
        if self._finishing and time.monotonic() - since > self._patience:
            raise _GivenUp(str(cause))
        if isinstance(cause, FOR_SOMEONE):
            self._told_why = True
            self._held_up(str(cause))
        elif isinstance(cause, errors.Refused):
            raise _Unsendable(str(cause))

    async def _send(self, change: Change) -> None:
        """Raises RpcError, _Unsendable, OSError."""
        try:
            change.name.encode()
        except UnicodeEncodeError:
            raise _Unsendable(f"the name {change.name!r} is no UTF-8; have the script write another one.") from None
        first = storage_pb2.WriteOutputFileRequest(job_id=self._job_id, name=change.name)
        if change.stamp is None:
            first.removed = first.complete = True
            await self._storage.WriteOutputFile(iter([first]), timeout=calls.UNARY_DEADLINE)
            return
        try:
            file = await asyncio.to_thread((self.folder / change.name).open, "rb")
        except FileNotFoundError:  # gone meanwhile: the next round tells
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            within = calls.UNARY_DEADLINE + size / _SLOWEST
            await self._storage.WriteOutputFile(_requests(first, file, size), timeout=within)


async def _requests(
    request: storage_pb2.WriteOutputFileRequest, file: BinaryIO, size: int
) -> AsyncIterator[storage_pb2.WriteOutputFileRequest]:
    """What a file has when it is opened; what comes to it meanwhile is another change."""
    while not request.complete:
        request.data = await asyncio.to_thread(file.read, min(size, calls.PIECE))
        size -= len(request.data)
        request.complete = not size or not request.data
        yield request
        request = storage_pb2.WriteOutputFileRequest(complete=request.complete)
