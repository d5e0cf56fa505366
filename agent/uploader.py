"""Results on their way to storage: one stream a job, and one unacknowledged message on it.

    add(result) ──▶ pending ──(5 ms, 20 ms, or none apart)──▶ WriteSegments ──ack──▶ told(segment, places)

The next message takes all that finished meanwhile. A stream that breaks is opened again and what was not acknowledged
is sent again at its offset; storage skips what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from batchmesh import errors, status
from batchmesh.v1 import storage_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from .budget import Budget
    from .runner import Result
    from .storages import Storage

#: Bytes of results in one message, below the limit of a message.
BLOCK = 3 * 2**20
#: Seconds between two messages while some workers run, and while all do: a message costs both sides CPU that they need.
PAUSE_SOME_BUSY = 0.005
PAUSE_ALL_BUSY = 0.020
_BACKOFF_FIRST = 0.05
_BACKOFF_LAST = 2.0

log = structlog.get_logger()


class Abandoned(Exception):
    """The results are wanted no more."""


class Uploader:
    """The results of one job stream of this node."""

    def __init__(
        self,
        storage: Storage,
        job_id: str,
        segment: str,
        budget: Budget,
        told: Callable[[str, int, list[Result]], None],
        pause: Callable[[], float],
    ) -> None:
        """`told` gets the segment, the offset of the first frame, and results whose frames lie there end to end.

        `segment` is unique in storage; `pause` says how long to leave between two messages as things stand.
        """
        self._storage = storage
        self._job_id = job_id
        self._segment_prefix = segment
        self._segments = 1
        self._budget = budget
        self._told = told
        self._pause = pause
        self._pending: deque[Result] = deque()
        self._wake = asyncio.Event()
        self._finishing = False
        self._abandoned = False
        self._writing = False
        self._call: Any = None
        self._named = False
        self._offset = 0
        self._sent_at = 0.0
        self._task = asyncio.create_task(self._run())

    @property
    def segment(self) -> str:
        return f"{self._segment_prefix}.{self._segments}"

    def add(self, results: list[Result]) -> None:
        self._budget.add(sum([each.length for each in results]))
        if not self._pending:
            self._wake.set()
        self._pending.extend(results)

    @property
    def empty(self) -> bool:
        """Nothing waits and nothing is on its way."""
        return not self._pending and not self._writing

    def hurry(self) -> None:
        """No worker is busy: what there is goes at once."""
        self._wake.set()

    async def finish(self) -> None:
        """Returns when everything is durable and told, and the stream is closed."""
        self._finishing = True
        self._wake.set()
        await self._task

    def abandon(self) -> None:
        """Drops what has not been sent; the stream is closed behind what is under way."""
        self._abandoned = self._finishing = True
        self._budget.release(sum(each.length for each in self._pending))
        self._pending.clear()
        self._wake.set()

    async def _run(self) -> None:
        with contextlib.suppress(Abandoned):
            while await self._something():
                await self._write_group(self._next_group())
        await self._half_close()

    async def _something(self) -> bool:
        """Waits until a message is due; False when there will be none any more."""
        while True:
            if not self._pending:
                if self._finishing:
                    return False
                self._wake.clear()
                await self._wake.wait()
                continue
            pause = 0.0 if self._finishing else self._pause()
            wait = self._sent_at + pause - time.monotonic()
            if wait <= 0:
                return True
            self._wake.clear()
            await self._woken_within(wait)

    async def _woken_within(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    def _next_group(self) -> list[Result]:
        """What fits one message; a larger frame is a group of its own."""
        pending = self._pending
        group = [pending.popleft()]
        size = group[0].length
        while pending and size + pending[0].length <= BLOCK:
            size += pending[0].length
            group.append(pending.popleft())
        return group

    async def _write_group(self, group: list[Result]) -> None:
        size = sum([each.length for each in group])
        self._writing = True
        try:
            block = group[0].frame if len(group) == 1 else b"".join([each.frame for each in group])
            await self._write_block(memoryview(block))
        finally:
            self._writing = False
            self._budget.release(size)
        self._told(self.segment, self._offset, group)
        self._offset += size

    async def _write_block(self, block: memoryview) -> None:
        """Returns when storage holds it; tries as long as anyone wants it. Errors: Abandoned."""
        backoff = _BACKOFF_FIRST
        while True:
            try:
                for at in range(0, len(block), BLOCK):
                    await self._write_piece(self._offset + at, block[at : at + BLOCK])
            except (grpc.RpcError, asyncio.InvalidStateError, EOFError) as error:
                await self._recover(error, backoff)
                backoff = min(_BACKOFF_LAST, backoff * 2)
            else:
                return
            if self._abandoned:
                raise Abandoned

    async def _write_piece(self, offset: int, piece: memoryview) -> None:
        if self._call is None:
            self._call, self._named = self._storage.WriteSegments(), False
        request = storage_pb2.WriteSegmentsRequest(offset=offset, block=bytes(piece))
        if not self._named:
            request.job_id, request.segment = self._job_id, self.segment
            self._named = True
        self._sent_at = time.monotonic()
        await self._call.write(request)
        response = await self._call.read()
        if response is grpc.aio.EOF:
            raise EOFError("storage ended the stream")

    async def _recover(self, error: Exception, backoff: float) -> None:
        """After a broken stream: waits, and leaves the next write to open another."""
        cause = status.from_rpc_error(error, "Storage") if isinstance(error, grpc.RpcError) else error
        log.warning("results_not_written", job=self._job_id, segment=self.segment, error=str(cause))
        if self._call is not None:
            self._call.cancel()
        self._call = None
        if isinstance(cause, errors.Gap):
            self._segments += 1
            self._offset = 0
        self._wake.clear()
        await self._woken_within(backoff * random.uniform(0.5, 1.0))  # noqa: S311 spread, not secrecy

    async def _half_close(self) -> None:
        if self._call is None:
            return
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._call.done_writing()
            while await self._call.read() is not grpc.aio.EOF:
                pass
