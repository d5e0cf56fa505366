"""The process that a mesh on one host lives and dies with: `python -m batchmesh.supervisor`, or `batchmesh up`.

    clients ══open connections══▶ control socket ┐
                                                 supervisor ──starts, ends──▶ storage, scheduler, agents
    home/lock ◀──held for its whole life─────────┘ ▲    ▲──────what they say, into home/log, bounded──┘
                                                   └──demand socket: the agents of compute targets (crew)

An embedded mesh ends when the last client's connection has closed; a standing one (`batchmesh up`) when it is told to.
A service that ends though nobody asked it to is started again at its address, and the mesh ends only when one does so
again and again. Then the agents are ended first, then the scheduler, then storage, and whatever process of theirs is
still there is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from batchmesh.child import Child
from batchmesh.crew import DRAIN_SECONDS, LINE_BYTES, Crew
from batchmesh.deaths import Deaths
from batchmesh.errors import BatchmeshError, Refused, ServiceFailed
from batchmesh.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds from the begin of the end, in its order, after which what has not ended is killed.
END_SECONDS = {"agent": 3.0, "scheduler": 4.0, "storage": 5.0}
#: Seconds within which storage and the scheduler are ready; clients give up earlier.
START_SECONDS = 60.0

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Plan:
    """What mesh to run."""

    home: Home
    #: It ends with its last client and listens on Unix sockets only.
    embedded: bool
    #: host:port of a standing mesh's scheduler; storage listens on another port of the same host.
    listen: str = "127.0.0.1:0"
    agents: int = 1
    #: Workers of each agent; None: the host's cores.
    slots: int | None = None
    #: Listen beyond loopback without TLS.
    insecure: bool = False


class Supervisor:
    """Runs one mesh from its start to its end. The caller holds the lock of the home for as long."""

    def __init__(self, plan: Plan, *, on_ready: Callable[[str], None] | None = None) -> None:
        """`on_ready` gets the scheduler's address once the mesh takes jobs."""
        self._plan = plan
        self._on_ready = on_ready
        self._services: list[Child] = []
        self._deaths: dict[str, Deaths] = {}
        self._restarts: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._ready = asyncio.Event()
        self._crew = Crew(self._start_member, lambda number: f"unix:{self._folder / f'crew-{number}'}", self._ready)
        self._over = asyncio.Event()
        self._reason = ""
        self._failed: BatchmeshError | None = None
        self._scheduler = ""
        self._folder = Path()

    async def run(self, first_client: socket.socket | None = None) -> str:
        """Returns why the mesh ended, once nothing of it is left.

        Errors: Refused when a service did not start, ServiceFailed when one ended again and again.
        """
        _become_subreaper()
        self._plan.home.forget_mesh()
        self._folder = self._plan.home.make_socket_folder()
        self._watch_signals()
        # The services load while the rest of this is set up.
        starting = asyncio.create_task(self._start_services())
        try:
            control = await asyncio.start_unix_server(self._serve_client, str(self._folder / "control"))
            demand = await asyncio.start_unix_server(self._crew.serve, self._demand_socket, limit=LINE_BYTES)
            self._write_mesh()
            if first_client is not None:
                streams = await asyncio.open_unix_connection(sock=first_client)
                self._first = asyncio.create_task(self._serve_client(*streams))
            await self._start_up(starting)
            await self._over.wait()
            control.close()
            demand.close()
        finally:
            starting.cancel()
            await self._end()
        if self._failed is not None:
            raise self._failed
        return self._reason

    async def _start_up(self, starting: asyncio.Task[None]) -> None:
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait({starting, over}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if self._over.is_set():
            return
        if not starting.done():
            self._fail(f"Its services were not ready within {START_SECONDS:.0f} seconds.")
            return
        try:
            starting.result()
        except Refused as error:
            self._fail(str(error))
            return
        self._write_mesh()
        self._ready.set()
        _say("mesh_ready", scheduler=self._scheduler)
        if self._on_ready is not None:
            self._on_ready(self._scheduler)

    def _write_mesh(self) -> None:
        self._plan.home.write_mesh(
            {
                "pid": os.getpid(),
                "folder": str(self._folder),
                "control": str(self._folder / "control"),
                "scheduler": self._scheduler,
                "embedded": self._plan.embedded,
            }
        )

    async def _start_services(self) -> None:
        """Starts each service as soon as the addresses that it needs are known, which on Unix sockets is at once."""
        plan, state = self._plan, self._plan.home.path
        storage = self._start("storage", "--listen", self._listen("storage"), "--root", str(state / "storage"))
        scheduler = self._start(
            "scheduler",
            *("--listen", self._listen("scheduler"), "--storage", await storage.address()),
            *("--state", str(state / "state"), "--supervisor", self._demand_socket),
            *(("--embedded",) if plan.embedded else ()),
        )
        address = await scheduler.address()
        agents = [self._start_agent(number, address) for number in range(1, plan.agents + 1)]
        for service in (storage, scheduler, *(() if plan.embedded else agents)):
            await asyncio.shield(service.ready)
        self._scheduler = address

    @property
    def _demand_socket(self) -> str:
        return str(self._folder / "demand")

    def _start_agent(self, number: int, scheduler: str) -> Child:
        name = f"agent-{number}"
        return self._start(
            name,
            *("--scheduler", scheduler, "--listen", f"unix:{self._folder / name}"),
            *("--work", str(self._plan.home.path / name)),
            *(("--slots", str(self._plan.slots)) if self._plan.slots else ()),
            *("--drain-timeout", "0" if self._plan.embedded else "2"),
        )

    def _start_member(self, number: int, target: str, slots: int) -> Child:
        """An agent of the crew. Names are by number: folders and logs are as many as there ever were at once."""
        arguments = (
            *("--scheduler", self._scheduler, "--listen", f"unix:{self._folder / f'crew-{number}'}"),
            *("--work", str(self._plan.home.path / f"crew-{number}"), "--compute-target", target),
            *(("--slots", str(slots)) if slots else ()),
            *("--drain-timeout", f"{DRAIN_SECONDS:g}"),
        )
        return Child(f"agent-crew-{number}", arguments, self._plan.home.log_folder)

    def _listen(self, name: str) -> str:
        if self._plan.embedded:
            return f"unix:{self._folder / name}"
        host = self._plan.listen.rpartition(":")[0]
        return self._plan.listen if name == "scheduler" else f"{host}:0"

    def _start(self, name: str, *arguments: str) -> Child:
        insecure = ("--insecure",) if self._plan.insecure and not name.startswith("agent") else ()
        service = Child(name, (*arguments, *insecure), self._plan.home.log_folder)
        self._services.append(service)
        return service

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, for as long as it lives. What it sends is read and dropped; the end of it is its leaving."""
        if self._over.is_set():
            writer.close()
            return
        self._clients.add(writer)
        greeting = asyncio.create_task(self._greet(writer))
        with suppress(ConnectionError):
            while await reader.read(4096):
                pass
        greeting.cancel()
        self._clients.discard(writer)
        writer.close()
        if self._plan.embedded and not self._clients:
            self._finish("Its last client has gone.")

    async def _greet(self, writer: asyncio.StreamWriter) -> None:
        await self._ready.wait()
        _send(writer, scheduler=self._scheduler)

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signum, self._finish, f"It was asked to by {signum.name}.")
        loop.add_signal_handler(signal.SIGCHLD, self._notice_deaths)

    def _notice_deaths(self) -> None:
        for service in list(self._services):
            if service.poll() is not None and not self._over.is_set():
                self._bury(service)
        self._crew.notice_deaths()
        _reap_orphans({service.pid for service in self._services} | self._crew.pids)

    def _bury(self, service: Child) -> None:
        """Has a service that died started again, unless the mesh was not ready yet or it dies again and again."""
        words = service.last_words()
        if not self._ready.is_set():
            self._fail(words)
            return
        pause = self._deaths.setdefault(service.name, Deaths()).add(time.monotonic(), was_ready=service.was_ready)
        if pause is None:
            self._fail(words)
            return
        _say("service_died", name=service.name, why=words, starts_again_in=pause)
        service.close()
        self._services.remove(service)
        restart = asyncio.get_running_loop().create_task(self._start_again(service, pause))
        self._restarts.add(restart)
        restart.add_done_callback(self._restarts.discard)

    async def _start_again(self, service: Child, pause: float) -> None:
        await asyncio.sleep(pause)
        arguments = service.same_address()
        if self._plan.embedded and service.name == "scheduler" and "--restarted" not in arguments:
            arguments += ("--restarted",)
        try:
            again = Child(service.name, arguments, self._plan.home.log_folder)
        except OSError as error:
            self._fail(f"The {service.name} could not be started again: {error}.")
            return
        self._services.append(again)
        with suppress(Refused):  # then it has died, and that is noticed where deaths are
            address = await asyncio.shield(again.ready)
            _say("service_serves_again", name=service.name, address=address, its_pid=again.pid)

    def _fail(self, sentence: str) -> None:
        """The end of a mesh for a reason of its own."""
        self._failed = ServiceFailed(sentence) if self._ready.is_set() else Refused(sentence)
        self._finish(sentence)

    def _finish(self, reason: str) -> None:
        if self._over.is_set():
            return
        self._reason = reason
        _say("mesh_ends", reason=reason)
        self._over.set()
        # From here on nobody finds this mesh; who has just connected is sent away and starts the next one.
        self._plan.home.mesh_file.unlink(missing_ok=True)
        word = "ended" if self._ready.is_set() else "error"
        for writer in self._clients:
            _send(writer, **{word: reason})

    async def _end(self) -> None:
        begin = time.monotonic()
        for restart in self._restarts:
            restart.cancel()
        self._services += self._crew.leave()
        for group, seconds in END_SECONDS.items():
            services = [each for each in self._services if each.name.startswith(group)]
            for service in services:
                service.terminate()
            for service in services:
                if not await service.ended_by(begin + seconds):
                    _say("service_killed", name=service.name)
        _kill_children()
        for service in self._services:
            service.close()
        for writer in self._clients:
            writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _send(writer: asyncio.StreamWriter, **line: str) -> None:
    with suppress(OSError):
        writer.write(json.dumps(line).encode() + b"\n")


def _say(event: str, **facts: Any) -> None:
    """One JSON line as the services' logs have them. structlog would cost the start of each embedded mesh 50 ms."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(  # noqa: T201 standard error is its log
        json.dumps({"event": event, **facts, "service": "supervisor", "pid": os.getpid(), "timestamp": stamp}),
        file=sys.stderr,
        flush=True,
    )


def _become_subreaper() -> None:
    """Linux: processes that the services leave behind become our children, so that the end of the mesh finds them."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> Iterator[int]:
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def _reap_orphans(services: set[int]) -> None:
    for pid in set(_children()) - services:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _kill_children() -> None:
    """Kills what the ended services left; the children of what is killed become ours, until there are none."""
    while left := set(_children()):
        for pid in left:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def main(arguments: list[str] | None = None) -> int:
    """Runs the embedded mesh of a home whose lock, and whose first client, this process has inherited."""
    parser = argparse.ArgumentParser(prog="python -m batchmesh.supervisor")
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--lock-fd", required=True, type=int)
    parser.add_argument("--client-fd", required=True, type=int)
    given = parser.parse_args(arguments)
    os.set_inheritable(given.lock_fd, False)
    with os.fdopen(given.lock_fd, "r+") as lock, socket.socket(fileno=given.client_fd) as client:
        client.set_inheritable(False)
        write_owner(lock)
        try:
            asyncio.run(_run_embedded(Home(given.home), client))
        except BatchmeshError:
            return 1
    return 0


async def _run_embedded(home: Home, client: socket.socket) -> None:
    await Supervisor(Plan(home, embedded=True)).run(client)


def write_owner(lock: IO[str]) -> None:
    """Writes into the lock file who holds it, for those who find the mesh silent."""
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()


if __name__ == "__main__":
    sys.exit(main())
