"""Results on their way to storage: one stream a job, and one unacknowledged message on it.

    add(result) ──▶ pending ──(5 ms, 50 ms, or none apart)──▶ WriteSegments ──ack──▶ told(segment, places)

The next message takes all that finished meanwhile. A stream that breaks, or on which no acknowledgement comes, is
opened again and what was not acknowledged is sent again at its offset; storage skips what it has. That goes on for as
long as anyone wants the results: storage may be away for an hour, or full until somebody has made room.
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
    from collections.abc import Callable, Iterator

    from .budget import Budget
    from .runner import Result
    from .storages import Storage
    from .waiting import Held

#: Bytes of results in one message, below the limit of a message.
BLOCK = 3 * 2**20
#: Bytes of results that are worth a message of their own: what waits goes at once, or a node could not send more than
#: one frame in each pause.
_ENOUGH = 2**20
#: Seconds between two messages while some workers run, and while all do: a message costs both sides CPU that they need.
PAUSE_SOME_BUSY = 0.005
PAUSE_ALL_BUSY = 0.050
_BACKOFF_FIRST = 0.05
_BACKOFF_LAST = 2.0

#: What somebody has to mend before results can be stored; so is a segment that ends although it has just begun.
FOR_SOMEONE = (errors.DiskFull, errors.DiskFailing, errors.OutputUnwritable)

log = structlog.get_logger()


class Abandoned(Exception):
    """The results are wanted no more."""


class Uploader:
    """The results of one job on this node."""

    def __init__(
        self,
        storage: Storage,
        job_id: str,
        segment: str,
        budget: Budget,
        told: Callable[[str, int, list[Result]], None],
        pause: Callable[[], float],
        held_up: Callable[[str], None],
        patience: float,
    ) -> None:
        """`told` gets the segment, the offset of the first frame, and results whose frames lie there end to end.

        `segment` is unique in storage; `pause` says how long to leave between two messages as things stand. `held_up`
        gets the sentence of a storage that has no room, and an empty one when it has taken something again. A message
        that is not acknowledged within `patience` seconds is sent again on another stream.
        """
        self._storage = storage
        self._job_id = job_id
        self._segment_prefix = segment
        self._segments = 1
        self._budget = budget
        self._told = told
        self._pause = pause
        self._held_up = held_up
        self._patience = patience
        self._told_why = False
        self._pending: deque[Result] = deque()
        self._pending_bytes = 0
        #: What is on its way.
        self._group: list[Result] = []
        self._wake = asyncio.Event()
        self._ended = False
        self._call: Any = None
        self._named = False
        self._offset = 0
        self._sent_at = 0.0
        self._task = asyncio.create_task(self._run())

    @property
    def segment(self) -> str:
        return f"{self._segment_prefix}.{self._segments}"

    def add(self, results: list[Result]) -> None:
        size = sum([each.length for each in results])
        self._budget.add(size)
        self._pending_bytes += size
        if not self._pending or self._pending_bytes >= _ENOUGH:
            self._wake.set()
        self._pending.extend(results)

    @property
    def empty(self) -> bool:
        """Nothing waits and nothing is on its way."""
        return not self._pending and not self._group

    def held(self) -> Iterator[Held]:
        """The attempts whose results are not durable yet."""
        for each in (*self._group, *self._pending):
            yield each.attempt.attempt_id, each.attempt.mini_batch, each.attempt.part

    def hurry(self) -> None:
        """No worker is busy: what there is goes at once."""
        self._wake.set()

    def end(self) -> None:
        """Drops what has not been sent; the stream is closed behind what is on its way."""
        self._ended = True
        self._budget.release(self._pending_bytes)
        self._pending.clear()
        self._pending_bytes = 0
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
                if self._ended:
                    return False
                self._wake.clear()
                await self._wake.wait()
                continue
            wait = self._sent_at + self._pause() - time.monotonic()
            if wait <= 0 or self._pending_bytes >= _ENOUGH:
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
        self._pending_bytes -= size
        return group

    async def _write_group(self, group: list[Result]) -> None:
        size = sum([each.length for each in group])
        self._group = group
        try:
            block = group[0].frame if len(group) == 1 else b"".join([each.frame for each in group])
            await self._write_block(memoryview(block))
        finally:
            self._group = []
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
            except Exception as error:  # noqa: BLE001 whatever it was, results are not dropped for it
                await self._recover(error, backoff)
                backoff = min(_BACKOFF_LAST, backoff * 2)
            else:
                return
            if self._ended:
                raise Abandoned

    async def _write_piece(self, offset: int, piece: memoryview) -> None:
        if self._call is None:
            self._call, self._named = self._storage.WriteSegments(), False
        request = storage_pb2.WriteSegmentsRequest(offset=offset, block=bytes(piece))
        if not self._named:
            request.job_id, request.segment = self._job_id, self.segment
            self._named = True
        self._sent_at = time.monotonic()
        with self._within_patience(self._call):
            await self._call.write(request)
            response = await self._call.read()
        if response is grpc.aio.EOF:
            raise EOFError("storage ended the stream")
        if self._told_why:
            self._told_why = False
            self._held_up("")

    @contextlib.contextmanager
    def _within_patience(self, call: Any) -> Iterator[None]:
        """Cancels a call that takes too long: the call, never the task that reads it. Errors: TimeoutError."""
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            call.cancel()

        timer = asyncio.get_running_loop().call_later(self._patience, give_up)
        try:
            yield
        except asyncio.CancelledError:
            if not late:
                raise
            raise TimeoutError(f"storage has acknowledged nothing for {self._patience:g} seconds") from None
        finally:
            timer.cancel()

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
        if isinstance(cause, FOR_SOMEONE) or (isinstance(cause, errors.Gap) and backoff > _BACKOFF_FIRST):
            self._told_why = True
            self._held_up(str(cause))
        self._wake.clear()
        await self._woken_within(backoff * random.uniform(0.5, 1.0))  # noqa: S311 spread, not secrecy

    async def _half_close(self) -> None:
        if self._call is None:
            return
        unimportant = contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError)
        with unimportant, self._within_patience(self._call):
            await self._call.done_writing()
            while await self._call.read() is not grpc.aio.EOF:
                pass
