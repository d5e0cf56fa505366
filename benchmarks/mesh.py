"""A standing mesh for a benchmark, each service in a process of its own, and what each of them uses in a round."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from measured import Round
from process_table import Process, below
from watching import Part, Watch, part

from batchmesh.client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchmesh.job import Job


class Mesh:
    """Scheduler, storage and one agent with `slots` workers on loopback; use as a context manager.

    `durable_delay` (seconds) holds each durable step of the scheduler and of storage, as a slow disk would.
    """

    def __init__(self, folder: Path, slots: int, durable_delay: float = 0.0) -> None:
        self._folder = folder
        self._slots = slots
        self._delay = str(durable_delay)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Starts the services, each once those that it needs are ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        at = ("--listen", "127.0.0.1:0")
        root, state = str(self._folder / "storage"), str(self._folder / "state")
        storage = self._start("storage", *at, "--root", root, "--test-durable-delay", self._delay)
        known = ("--storage", storage, "--state", state, "--durable-delay", self._delay)
        scheduler = self._start("scheduler", *at, *known)
        self._start_agents(scheduler)
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

    def timed(self, count: int, script: Path, inputs: Path, output: Path, **settings: Any) -> tuple[Round, Path]:
        """A job over `count` things, from SubmitJob until it has succeeded; and its output."""
        with self.watch() as watch:
            begin = time.perf_counter()
            job = self.run(script, inputs, output, **settings)
            seconds = time.perf_counter() - begin
        return Round(seconds, count, watch.cpu, watch.peaks, watch.peak), Path(job.output_path)

    def watch(self) -> Watch:
        """What its parts use from now on."""
        return Watch(self._parts)

    def _parts(self, found: dict[int, Process]) -> dict[str, Part]:
        """Each service's process, and the workers, also those that have ended. A service that died has used nothing."""
        pids = {name: process.pid for name, process in self._processes.items()}
        services = {name: found.get(pid, Process(pid, 0, 0.0, 0.0, 0)) for name, pid in pids.items()}
        workers = part(below(services["agent"].pid, found))
        ended = services["agent"].waited
        parts = {name: part([each], waited=False) for name, each in services.items()}
        return {**parts, "workers": dataclasses.replace(workers, cpu=workers.cpu + ended)}

    def _start_agents(self, scheduler: str) -> None:
        work = ("--work", str(self._folder / "work"), "--slots", str(self._slots))
        self._start("agent", "--scheduler", scheduler, *work)

    def _start(self, name: str, *arguments: str, program: Sequence[str] = ()) -> str:
        """The address of a service, or of another `program` in its place, once it is ready."""
        read_fd, write_fd = os.pipe()
        command = [sys.executable, *(program or ("-m", f"batchmesh.{name}")), *arguments, "--end-with-parent"]
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
