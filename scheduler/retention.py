"""Which jobs that have ended are forgotten, and what the database is asked for to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .model import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .store import Database

_FINAL = ",".join(str(int(state)) for state in sorted(FINAL))


class Kept(NamedTuple):
    """A job and what storage keeps for it. `ended` in seconds since 1970; None while it has not."""

    job_id: str
    ended: float | None
    bytes: int


def to_forget(jobs: Iterable[Kept], now: float, keep_seconds: float, keep_bytes: int) -> list[str]:
    """The jobs that ended longer ago than `keep_seconds`, then the oldest until the rest takes `keep_bytes` at most.

    The one that ended last stays for its time, however large it is: what has just failed can be resumed.
    """
    jobs = list(jobs)
    left = sum(job.bytes for job in jobs)
    oldest_first = sorted((job for job in jobs if job.ended is not None), key=lambda job: (job.ended, job.job_id))
    last = oldest_first[-1] if oldest_first else None
    forgotten: list[str] = []
    for job in oldest_first:
        assert job.ended is not None, "only those that have ended are looked at"
        too_old = now - job.ended > keep_seconds
        if too_old or (left > keep_bytes and job is not last):
            forgotten.append(job.job_id)
            left -= job.bytes
    return forgotten


def ended_jobs(db: Database) -> dict[str, float]:
    """When each job that has ended did."""
    sql = f"SELECT job_id, coalesce(ended, submitted) FROM jobs WHERE state IN ({_FINAL})"  # noqa: S608 numbers of our own
    return dict(db.execute(sql))


def specs(db: Database) -> list[bytes]:
    """The specs of all jobs."""
    return [spec for (spec,) in db.execute("SELECT DISTINCT spec FROM jobs")]


def kept(ended: Mapping[str, float], usage: Mapping[str, int]) -> list[Kept]:
    """What is kept, of jobs that the database knows to have ended and of all others that storage has bytes of."""
    return [Kept(job_id, ended.get(job_id), usage.get(job_id, 0)) for job_id in sorted({*ended, *usage})]
