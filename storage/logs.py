"""Logs: files that grow by offset, up to a limit."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh.errors import Gap, LogFull, NoLog

from .disk import make_folder, said_clearly

if TYPE_CHECKING:
    from typing import BinaryIO

    from .config import Config
    from .places import Places


class Logs:
    """The logs of all jobs. All of it blocks."""

    def __init__(self, places: Places, config: Config) -> None:
        self._places = places
        self._config = config
        #: Bytes and number of the logs of the jobs that write now; counted from the folder when first needed.
        self._totals: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def append(self, job_id: str, name: str, offset: int, data: bytes) -> int:
        """The size of the log now. Raises BadName, Gap, LogFull or DiskFull.

        Bytes below the size are not added again. Logs are not synced: they may lose their end with the power.
        """
        path = self._places.log(job_id, name)
        with self._lock:
            return self._append(job_id, name, path, offset, data)

    def _append(self, job_id: str, name: str, path: Path, offset: int, data: bytes) -> int:
        size = path.stat().st_size if path.exists() else 0
        if offset > size:
            raise Gap(f"Log {name} has {size} bytes, and these begin at {offset}; send the rest.")
        new = data[size - offset :]
        if new:
            self._check(job_id, name, size, len(new))
            with said_clearly(path):
                self._write(job_id, path, size, new)
        return size + len(new)

    def _write(self, job_id: str, path: Path, size: int, new: bytes) -> None:
        total, count = self._total(job_id)
        # On a full disk a part of it may be written; what there is then is counted anew.
        del self._totals[job_id]
        if not path.parent.is_dir():
            make_folder(self._places.logs(job_id))
            path.parent.mkdir(parents=True, exist_ok=True)
        rest = memoryview(new)
        with path.open("ab", buffering=0) as file:
            while rest:
                rest = rest[file.write(rest) :]
        self._totals[job_id] = (total + len(new), count + (size == 0))

    def _check(self, job_id: str, name: str, size: int, more: int) -> None:
        total, count = self._total(job_id)
        if size + more > self._config.log_limit:
            raise LogFull(f"Log {name} has reached its limit of {self._config.log_limit} bytes; the rest is not kept.")
        if total + more > self._config.job_log_limit or (not size and count >= self._config.job_log_count):
            raise LogFull(f"The logs of job {job_id} have reached their limit; the rest is not kept.")

    def _total(self, job_id: str) -> tuple[int, int]:
        if job_id not in self._totals:
            if len(self._totals) > 1000:
                self._totals.clear()
            sizes = [size for _, size in self.list(job_id)]
            self._totals[job_id] = (sum(sizes), len(sizes))
        return self._totals[job_id]

    def list(self, job_id: str) -> list[tuple[str, int]]:
        """Names and sizes (bytes), sorted by name."""
        folder = self._places.logs(job_id)
        found = []
        for above, _, names in os.walk(folder):
            for name in names:
                path = Path(above) / name
                with suppress(FileNotFoundError):  # the job is being deleted
                    found.append((path.relative_to(folder).as_posix(), path.stat().st_size))
        return sorted(found)

    def open(self, job_id: str, name: str) -> BinaryIO:
        """Raises BadName or NoLog."""
        path = self._places.log(job_id, name)
        if not path.is_file():
            raise NoLog(f"Job {job_id} has no log {name}.")
        return path.open("rb")

    def forget(self, job_id: str) -> None:
        """The job is being deleted."""
        with self._lock:
            self._totals.pop(job_id, None)
