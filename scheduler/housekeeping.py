"""Forgets jobs: when a client asks for it, and by itself, so that storage and the database do not grow without a limit.

at the start, then each hour:  ListUsage ──▶ to_forget ──▶ storage DeleteJob, then the job's rows ──▶ TrimArtifacts
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import BatchmeshError, CommitRunning, JobNotEnded, NoJob
from batchmesh.v1 import job_pb2

from . import after, retention, tables
from .model import FINAL, State
from .supplies import artifacts_of

if TYPE_CHECKING:
    from collections.abc import Container

    from .config import Config
    from .publisher import Publisher
    from .store import Database, Store


class Housekeeping:
    """`active` are the jobs that run. Whoever changes a job that has ended holds `door` meanwhile."""

    def __init__(self, config: Config, store: Store, publisher: Publisher, active: Container[str]) -> None:
        self._config = config
        self._store = store
        self._publisher = publisher
        self._active = active
        self.door = asyncio.Lock()

    async def run(self) -> None:
        """Tidies up now and then, for as long as the scheduler lives."""
        while True:
            try:
                await self.tidy()
            except Exception as error:  # noqa: BLE001 whatever it was, the next time may go better
                known = isinstance(error, BatchmeshError)
                structlog.get_logger().warning("housekeeping_failed", why=str(error), exc_info=not known)
            await asyncio.sleep(self._config.housekeeping_interval)

    async def tidy(self) -> None:
        """Forgets what is too old or too much, then has storage delete artifacts that no job asks for any more."""
        config = self._config
        kept = retention.kept(
            await asyncio.wrap_future(self._store.read(retention.ended_jobs)), await self._publisher.usage()
        )
        now = time.time()
        for job_id in retention.to_forget(kept, now, config.keep_days * 86400, config.keep_bytes):
            try:
                await self.forget(job_id)
            except (NoJob, JobNotEnded, CommitRunning):  # it was deleted, or resumed, meanwhile
                continue
            structlog.get_logger().info("job_forgotten", job=job_id)
        await self._trim()

    async def forget(self, job_id: str) -> None:
        """Deletes what storage and the database have of a job; its output stays. Errors: NoJob, JobNotEnded."""
        async with self.door:
            row = await asyncio.wrap_future(self._store.read(lambda db: tables.find_job(db, job_id)))
            if row is None:
                raise NoJob(f"There is no job '{job_id}'; `batchmesh jobs` lists those there are.")
            if State(row.state) not in FINAL or job_id in self._active:
                raise JobNotEnded(f"Job {job_id} is {State(row.state).name}; cancel it first.")
            waiting = await asyncio.wrap_future(self._store.read(lambda db: after.waiting_behind(db, job_id)))
            if waiting is not None:
                raise JobNotEnded(f"Job {waiting} comes after job {job_id} and waits; cancel that one first.")
            await self._publisher.delete(job_id)
            await asyncio.wrap_future(self._store.write(tables.delete_job(row.number)))

    async def _trim(self) -> None:
        """Artifacts share the limit with the jobs."""
        keep = await asyncio.wrap_future(self._store.read(_artifacts))
        used = sum((await self._publisher.usage()).values())
        await self._publisher.trim_artifacts(keep, max(0, self._config.keep_bytes - used))


def _artifacts(db: Database) -> list[str]:
    """The digests of what jobs may still ask for. Called on the database's thread."""
    return sorted({digest for spec in retention.specs(db) for digest in artifacts_of(job_pb2.JobSpec.FromString(spec))})
