"""A job's logs on this node, on their way to storage.

    worker's fd 1, 2 ──▶ JobLogs.write() ──▶ one bounded log each ──about once a second──▶ storage.AppendLog

A log that storage does not take stays here, within its bound, and is sent with the next round.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from batchmesh import calls, errors, status
from batchmesh.v1 import storage_pb2

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .storages import Storage

#: Seconds between two rounds at least.
_SPACING = 0.05

log = structlog.get_logger()


class _Log:
    """One log of one job: what is not in storage yet, and how much was taken in all."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._limit = limit
        self.pending = bytearray()
        #: Offset in storage; None until storage has been asked what it holds.
        self.offset: int | None = None

    def write(self, data: bytes) -> None:
        if self._room <= 0:
            return
        self.pending += data[: self._room]
        self._room -= len(data)
        if self._room < 0:
            self.pending += (
                f"\n[batchmesh: the log is at its limit of {self._limit:,} bytes; the rest was dropped]\n".encode()
            )


class JobLogs:
    """The logs of one job on this node, shipped while it runs and once more at its end."""

    def __init__(self, storage: Storage, job_id: str, node_id: str, limit: int) -> None:
        """`limit` is in bytes, for each worker process and stream."""
        self._storage = storage
        self._job_id = job_id
        self._node_id = node_id
        self._limit = limit
        self._logs: dict[str, _Log] = {}
        self._shipping = asyncio.Lock()
        self._due = asyncio.Event()
        self._stopped = asyncio.Event()

    def write(self, stream: str, process: int, data: bytes) -> None:
        """`stream` is "stdout" or "stderr"."""
        name = f"user/{stream}/{self._node_id}/process{process:03d}.txt"
        kept = self._logs.get(name)
        if kept is None:
            kept = self._logs[name] = _Log(self._limit)
        kept.write(data)

    async def ship_every(self, seconds: float) -> None:
        """Ships about every so many seconds and when it is due, until stopped, and then once more."""
        while not self._stopped.is_set():
            await _within(self._due.wait(), seconds)
            self._due.clear()
            await self.ship()
            await _within(self._stopped.wait(), _SPACING)
        await self.ship()

    def soon(self) -> None:
        """Nothing runs now: whoever looks at the job next looks for what was printed."""
        self._due.set()

    def stop(self) -> None:
        """Nothing more is written: ship_every ships the rest and returns."""
        self._stopped.set()
        self._due.set()

    async def ship(self) -> None:
        """Sends what is pending. A log that storage does not take is logged here and kept for the next round."""
        async with self._shipping:
            for name, kept in list(self._logs.items()):
                try:
                    await self._ship_one(name, kept)
                except grpc.RpcError as error:
                    cause = status.from_rpc_error(error)
                    log.warning("log_not_shipped", job=self._job_id, log=name, error=str(cause))
                    if isinstance(cause, errors.LogFull):
                        kept.pending.clear()
                    if isinstance(cause, errors.Gap):  # storage has lost the end of it: it is asked for its size again
                        kept.offset = None

    async def _ship_one(self, name: str, kept: _Log) -> None:
        while kept.pending:
            if kept.offset is None:
                kept.offset = await self._append(name, 0, b"")
            piece = bytes(kept.pending[: calls.PIECE])
            kept.offset = await self._append(name, kept.offset, piece)
            del kept.pending[: len(piece)]

    async def _append(self, name: str, offset: int, data: bytes) -> int:
        request = storage_pb2.AppendLogRequest(job_id=self._job_id, name=name, offset=offset, data=data)
        response = await self._storage.AppendLog(request, timeout=calls.UNARY_DEADLINE)
        return response.size


async def _within(event: Coroutine[Any, Any, Any], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event, seconds)
