"""A real mesh for a test: three services in their own processes, on free ports, under one temp folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

#: Seconds within which a service says that it serves, and within which it ends.
START, END = 30.0, 20.0


@dataclass
class Service:
    """One process of the mesh. `address` is where it listens."""

    name: str
    process: subprocess.Popen[bytes]
    address: str

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(END)

    def end(self) -> int:
        """SIGTERM, and the exit status; a service that does not end in time is killed and fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)
        try:
            return self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {END} s of SIGTERM") from None


def start_service(name: str, log: Path, *arguments: str, env: dict[str, str] | None = None) -> Service:
    """Starts `python -m batchmesh.<name>` and returns once it serves; fails with its log otherwise."""
    read_fd, write_fd = os.pipe()
    command = [sys.executable, "-m", f"batchmesh.{name}", *arguments, "--ready-fd", str(write_fd), "--end-with-parent"]
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            pass_fds=[write_fd],
            stderr=stream,
            stdout=stream,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
    os.close(write_fd)
    with os.fdopen(read_fd) as pipe:
        line = pipe.readline()
    if not line:
        process.kill()
        process.wait(END)
        raise AssertionError(f"{name} did not start:\n{log.read_text()}")
    ready: dict[str, Any] = json.loads(line)
    if "error" in ready:
        process.wait(END)
        raise AssertionError(f"{name} refused to start: {ready['error']}")
    return Service(name, process, ready["address"])


@dataclass
class Mesh:
    """Scheduler, storage and `agents` agents; use as a context manager."""

    folder: Path
    agents: int = 1
    slots: int = 2
    scheduler_options: tuple[str, ...] = ()
    agent_options: tuple[str, ...] = ()
    services: list[Service] = field(default_factory=list)

    def __enter__(self) -> Self:
        try:
            self.storage = self.start("storage", "--listen", "127.0.0.1:0", "--root", str(self.folder / "storage"))
            self.scheduler = self.start_scheduler("127.0.0.1:0")
            for _ in range(self.agents):
                self.add_agent()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def start(self, name: str, *arguments: str) -> Service:
        log = self.folder / f"{name}-{len(self.services)}.log"
        service = start_service(name, log, *arguments)
        self.services.append(service)
        return service

    def start_scheduler(self, listen: str) -> Service:
        state = str(self.folder / "state")
        options = ("--storage", self.storage.address, "--state", state, *self.scheduler_options)
        return self.start("scheduler", "--listen", listen, *options)

    def add_agent(self) -> Service:
        work = self.folder / f"agent-{len(self.services)}"
        options = ("--work", str(work), "--slots", str(self.slots), *self.agent_options)
        return self.start("agent", "--scheduler", self.scheduler.address, *options)

    @property
    def address(self) -> str:
        return self.scheduler.address

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the services in order; after a failure it kills them, so that the failure is what is told."""
        for service in reversed(self.services):
            if kind is not None:
                service.kill()
            elif service.process.poll() is None:
                service.end()
