"""The commits and copies at work: one of a job at a time, each of which goes on when its caller has gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from batchmesh.errors import CommitRunning

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_Answer = TypeVar("_Answer")


class _Running(NamedTuple, Generic[_Answer]):
    """An output that is being written."""

    digest: str
    task: asyncio.Task[_Answer]


class Commits(Generic[_Answer]):
    """By job. Lives on the event loop."""

    def __init__(self) -> None:
        self._running: dict[str, _Running[_Answer]] = {}

    async def end(self) -> None:
        """Ends when what was begun has ended."""
        await asyncio.gather(*(each.task for each in self._running.values()), return_exceptions=True)

    def check_none(self, job_id: str) -> None:
        """Raises CommitRunning when one of the job is at work."""
        if job_id in self._running:
            raise CommitRunning(f"The output of job {job_id} is being written; ask again.")

    def begun(
        self, job_id: str, digest: str, work: Callable[[], Coroutine[Any, Any, _Answer]]
    ) -> asyncio.Task[_Answer]:
        """The one that has this digest, running or begun now; raises CommitRunning when another one runs.

        A scheduler that was started again says once more what its predecessor has said; then `work` is not called.
        """
        running = self._running.get(job_id)
        if running and running.digest == digest:
            return running.task
        self.check_none(job_id)
        task = asyncio.create_task(self._whole(job_id, work()))
        self._running[job_id] = _Running(digest, task)
        return task

    async def _whole(self, job_id: str, work: Coroutine[Any, Any, _Answer]) -> _Answer:
        try:
            return await work
        finally:
            del self._running[job_id]
