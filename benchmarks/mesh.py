"""A standing mesh for a benchmark, each service in a process of its own, and the CPU time that each has used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from batchmesh.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.job import Job

_TICK = os.sysconf("SC_CLK_TCK")


class Mesh:
    """Scheduler, storage and one agent with `slots` workers on loopback; use as a context manager."""

    def __init__(self, folder: Path, slots: int) -> None:
        self._folder = folder
        self._slots = slots
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Starts the services, each once those that it needs are ready."""
        at = ("--listen", "127.0.0.1:0")
        storage = self._start("storage", *at, "--root", str(self._folder / "storage"))
        state = str(self._folder / "state")
        scheduler = self._start("scheduler", *at, "--storage", storage, "--state", state)
        work = ("--work", str(self._folder / "work"), "--slots", str(self._slots))
        self._start("agent", "--scheduler", scheduler, *work)
        self.client = Client(scheduler)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        for process in reversed(self._processes.values()):
            process.terminate()
            process.wait(60)

    def run(self, script: Path, inputs: Path, output: Path, **settings: Any) -> Job:
        """Submits a job and waits until it has succeeded."""
        submitted = self.client.submit(script, inputs, output, attended=True, overwrite=True, **settings)
        *_, job = self.client.watch(submitted.job_id)
        if not job.output_path:
            raise RuntimeError(f"{job.job_id} ended {job.state}: {job.error}")
        return job

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds used so far by each service's process, and by all workers of the agent together."""
        used = {name: _cpu_seconds(process.pid) for name, process in self._processes.items()}
        used["workers"] = sum(map(_cpu_seconds, _descendants(self._processes["agent"].pid)))
        return used

    def _start(self, name: str, *arguments: str) -> str:
        """Its address, once it is ready."""
        read_fd, write_fd = os.pipe()
        command = [sys.executable, "-m", f"batchmesh.{name}", *arguments, "--end-with-parent"]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [*command, "--ready-fd", str(write_fd)], pass_fds=[write_fd], stdout=log, stderr=log
            )
        os.close(write_fd)
        with os.fdopen(read_fd) as pipe:
            ready = json.loads(pipe.readline() or "{}")
        if "address" not in ready:
            raise RuntimeError(f"{name} did not start:\n{(self._folder / f'{name}.log').read_text()}")
        return str(ready["address"])


def _cpu_seconds(pid: int) -> float:
    """User and system time of a living process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from _descendants(child)
