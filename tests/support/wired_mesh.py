"""A mesh whose every edge is a wire: services may die and come back, and nobody's address changes.

    client ──▶ client>scheduler ──▶ scheduler ◀── agent0>scheduler ◀── agent0
                                        │  │
                                        │  └──▶ scheduler>agent0 ──▶ agent0 ──▶ agents>storage ──▶ storage
                                        └──▶ scheduler>storage ──▶ storage

Services listen on Unix sockets, whose names no other process takes while they are down. All processes, workers too,
carry BATCHMESH_HOME=<folder> in their environment, by which `processes` finds them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from .living import processes_of
from .mesh import END, start_service
from .story import wait_for
from .wire import Direction, Wire, Wires

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

CLIENT, STORED, COMMITS = "client>scheduler", "agents>storage", "scheduler>storage"


def beats(number: int) -> str:
    """The wire of an agent's heartbeats."""
    return f"agent{number}>scheduler"


def streams(number: int) -> str:
    """The wire of the scheduler's streams to an agent."""
    return f"scheduler>agent{number}"


@dataclass
class Part:
    """One service of the mesh over all its lives; `process` is the newest one."""

    name: str
    service: str
    arguments: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} has not been started"
        return self.process.pid

    def start(self, environment: dict[str, str], *options: str) -> None:
        """Returns once it serves."""
        self.process = start_service(self.service, self.log, *self.arguments, *options, env=environment).process

    def launch(self, environment: dict[str, str], *options: str) -> None:
        """Returns at once: a scheduler serves only when it has found its storage. To be called on the main thread."""
        command = [sys.executable, "-m", f"batchmesh.{self.service}", *self.arguments, *options, "--end-with-parent"]
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env={**os.environ, **environment}
            )

    def kill(self) -> None:
        """SIGKILL, and returns once it has ended."""
        assert self.process is not None, f"{self.name} has not been started"
        self.process.kill()
        self.process.wait(END)

    def signal(self, signum: signal.Signals) -> None:
        assert self.process is not None, f"{self.name} has not been started"
        self.process.send_signal(signum)

    def end(self) -> None:
        """SIGTERM, also of a stopped one; what does not end in time is killed and fails the test."""
        if not self.alive:
            return
        assert self.process is not None, "it is alive"
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {END} s of SIGTERM") from None


@dataclass
class WiredMesh:
    """Scheduler, storage and agents 0…; use as a context manager, on the main thread."""

    folder: Path
    agents: int = 3
    slots: int = 2
    lease: float = 4.0
    heartbeat: float = 0.3
    scheduler_options: tuple[str, ...] = ()
    storage_options: tuple[str, ...] = ()
    agent_options: tuple[str, ...] = ()
    wires: dict[str, Wire] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.sockets = tempfile.mkdtemp(prefix="mesh-")
            stack.callback(shutil.rmtree, self.sockets, ignore_errors=True)
            self._lay(stack.enter_context(Wires()))
            self._describe()
            stack.push(self._end)
            for name, part in self.parts.items():
                part.start(self.environment(name, ()))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def address(self) -> str:
        """Where clients call the scheduler."""
        return self.wires[CLIENT].address

    @property
    def scheduler(self) -> Part:
        return self.parts["scheduler"]

    @property
    def storage(self) -> Part:
        return self.parts["storage"]

    def agent(self, number: int) -> Part:
        return self.parts[f"agent{number}"]

    def restart(self, name: str, *options: str) -> None:
        """A new life of a service that was killed, with `options` beside its own; does not wait until it serves."""
        part = self.parts[name]
        assert not part.alive, f"{name} is still alive"
        part.launch(self.environment(name, options), *options)

    def environment(self, name: str, options: tuple[str, ...]) -> dict[str, str]:
        """What a service's environment has beside the test's own, for a life with these `options`."""
        del name, options
        return {"BATCHMESH_HOME": str(self.folder)}

    def processes(self) -> dict[int, str]:
        """Process id to command line of all services and workers that live."""
        return processes_of(self.folder)

    def workers(self) -> list[int]:
        """Process ids of all workers."""
        return sorted(pid for pid, line in self.processes().items() if "/batchmesh-worker-" in line)

    def heal(self) -> Counter[Direction]:
        """Ends all faults of all wires; says how many requests to lose and responses to fail never came."""
        return sum((wire.heal() for wire in self.wires.values()), Counter())

    def _socket(self, name: str) -> str:
        return f"unix:{self.sockets}/{name}"

    def _lay(self, wires: Wires) -> None:
        for name in (CLIENT, *map(beats, range(self.agents))):
            self.wires[name] = wires.to(self._socket("scheduler"))
        for name in (STORED, COMMITS):
            self.wires[name] = wires.to(self._socket("storage"))
        for number in range(self.agents):
            self.wires[streams(number)] = wires.to(self._socket(f"agent{number}"))

    def _describe(self) -> None:
        self._add(
            "storage",
            "storage",
            *("--root", str(self.folder / "disk" / "storage"), "--advertise", self.wires[STORED].address),
            *self.storage_options,
        )
        self._add(
            "scheduler",
            "scheduler",
            *("--storage", self.wires[COMMITS].address, "--state", str(self.folder / "state")),
            *("--lease", str(self.lease), "--heartbeat", str(self.heartbeat)),
            *self.scheduler_options,
        )
        for number in range(self.agents):
            self._add(
                f"agent{number}",
                "agent",
                *("--scheduler", self.wires[beats(number)].address, "--advertise", self.wires[streams(number)].address),
                *("--work", str(self.folder / f"agent{number}"), "--slots", str(self.slots), "--name", f"n{number}"),
                *self.agent_options,
            )

    def _add(self, name: str, service: str, *arguments: str) -> None:
        listen = ("--listen", self._socket(name))
        self.parts[name] = Part(name, service, (*listen, *arguments), self.folder / f"{name}.log")

    def _end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends the services in order; after a failure it kills them, so that the failure is what is told.

        No process is left in either case: workers end with their agents."""
        del error, trace
        for part in reversed(self.parts.values()):
            if part.alive:
                part.kill() if kind is not None else part.end()
        wait_for(lambda: not self.processes(), f"the end of all processes, {self.processes()}", END)
