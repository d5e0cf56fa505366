"""Where everything lies below the root; and which names may become part of a path.

root/lock                          held by the process that serves this root
root/artifacts/ab/abcd…            content-addressed
root/jobs/<id>/segments/<name>     frames, as agents sent them
root/jobs/<id>/logs/<name…>
root/jobs/<id>/reservation.json    the output folder the job holds
root/jobs/<id>/manifest.json       what the last commit published
root/jobs/<id>/commit/             the stream of a commit in progress
root/trash/                        jobs being deleted
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batchmesh.errors import BadName

if TYPE_CHECKING:
    from pathlib import Path

_JOB = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_LOG_PART = re.compile(r"[A-Za-z0-9_@:+=-][A-Za-z0-9._@:+=-]{0,199}")


class Places:
    """Paths below the root; each raises BadName for a name that is none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = root / "artifacts"
        self.jobs = root / "jobs"
        self.trash = root / "trash"
        self.lock = root / "lock"

    def job(self, job_id: str) -> Path:
        """The folder of a job."""
        if not _JOB.fullmatch(job_id):
            raise BadName(f"'{job_id}' is no id of a job; it has 1 to 63 of a-z, 0-9 and '-'.")
        return self.jobs / job_id

    def segment(self, job_id: str, name: str) -> Path:
        """The file of a segment."""
        if not _SEGMENT.fullmatch(name):
            raise BadName(f"'{name}' is no name of a segment; it has 1 to 200 of A-Z, a-z, 0-9, '.', '_' and '-'.")
        return self.job(job_id) / "segments" / name

    def logs(self, job_id: str) -> Path:
        """The folder of a job's logs."""
        return self.job(job_id) / "logs"

    def log(self, job_id: str, name: str) -> Path:
        """The file of a log."""
        parts = name.split("/")
        if len(parts) > 10 or not all(map(_LOG_PART.fullmatch, parts)):
            raise BadName(f"'{name}' is no name of a log; it is up to 10 names of A-Z, a-z, 0-9 and ._@:+=- with '/'.")
        return self.logs(job_id).joinpath(*parts)

    def reservation(self, job_id: str) -> Path:
        """What the job has reserved."""
        return self.job(job_id) / "reservation.json"

    def manifest(self, job_id: str) -> Path:
        """What the job has published."""
        return self.job(job_id) / "manifest.json"

    def spool(self, job_id: str) -> Path:
        """What a commit is told before it can begin."""
        return self.job(job_id) / "commit"
