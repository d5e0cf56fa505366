"""Where everything lies below the root; and which names may become part of a path.

root/lock                          held by the process that serves this root
root/artifacts/ab/abcd…            content-addressed
root/jobs/<id>/segments/<name>     frames, as agents sent them
root/jobs/<id>/logs/<name…>
root/jobs/<id>/reservation.json    the output folder the job holds
root/jobs/<id>/manifest.json       what the last commit published
root/jobs/<id>/commit/             the stream of a commit in progress
root/jobs/<id>/files/<name…>       what scripts wrote to an output folder that their node does not see
root/jobs/<id>/incoming/           such files on their way in
root/jobs/<id>/output/             an output for a remote datastore, while it is made and uploaded
root/trash/                        jobs being deleted
root/catalog/<workspace>/<kind>/<name>/<version>.json
root/datastore/<workspace>/        the default datastore of the workspace
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batchmesh.data.job_report import REPORT
from batchmesh.errors import BadName

if TYPE_CHECKING:
    from pathlib import Path

_JOB = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
#: Every name of ours that is hidden in an output folder begins so.
HIDDEN = ".batchmesh-"
_LOG_PART = re.compile(r"[A-Za-z0-9_@:+=-][A-Za-z0-9._@:+=-]{0,199}")


class Places:
    """Paths below the root; each raises BadName for a name that is none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = root / "artifacts"
        self.jobs = root / "jobs"
        self.trash = root / "trash"
        self.catalog = root / "catalog"
        self.datastore = root / "datastore"
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

    def files(self, job_id: str) -> Path:
        """What agents have sent of the job's output."""
        return self.job(job_id) / "files"

    def file(self, job_id: str, name: str) -> Path:
        """One of those; `name` is relative to the output folder."""
        parts = name.split("/")
        odd = not name or "\0" in name or any(part in ("", ".", "..") for part in parts)
        if odd or parts[0] == REPORT or parts[0].startswith(HIDDEN):
            raise BadName(f"'{name}' is no name of a file in an output folder; write another one.")
        return self.files(job_id).joinpath(*parts)

    def incoming(self, job_id: str) -> Path:
        """Where such a file is until it is whole."""
        return self.job(job_id) / "incoming"

    def staging(self, job_id: str) -> Path:
        """Where an output for a remote datastore is made."""
        return self.job(job_id) / "output"

    def spool(self, job_id: str) -> Path:
        """What a commit is told before it can begin."""
        return self.job(job_id) / "commit"
