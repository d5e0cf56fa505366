"""A service as a child process of the supervisor: its ready line, its log, and its end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import IO, TYPE_CHECKING

from batchmesh.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Bytes of each service's log, kept twice: the one that is written and the one before.
LOG_BYTES = 8 * 2**20


class Child:
    """One child process, its ready line, and its log."""

    def __init__(self, name: str, arguments: Sequence[str], log_folder: Path) -> None:
        """Errors: OSError when it cannot be started; nothing is left open then, for it may be tried for ever."""
        self.name = name
        self.arguments = arguments
        self._listen = arguments[arguments.index("--listen") + 1]
        self._log = BoundedLog(log_folder / f"{name}.log", LOG_BYTES)
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # Whoever waits for readiness may be gone by the time it fails.
        self.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        with ExitStack() as opened:
            opened.callback(self._log.close)
            said, says = _pipe(opened)
            told, tells = _pipe(opened)
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", f"batchmesh.{name.partition('-')[0]}", *arguments),
                    *("--ready-fd", str(tells), "--end-with-parent"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=says,
                stderr=says,
                pass_fds=(tells,),
                # Ctrl-C in the terminal of `batchmesh up` is for the supervisor, which ends them in order.
                start_new_session=True,
            )
            opened.pop_all()
        os.close(says)
        os.close(tells)
        self._said, self._told = said, told
        os.set_blocking(said, False)
        os.set_blocking(told, False)
        loop = asyncio.get_running_loop()
        loop.add_reader(said, self._keep)
        loop.add_reader(told, self._hear)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def address(self) -> str:
        """Where it is called: known at once on a Unix socket, else once it is ready."""
        return self._listen if self._listen.startswith("unix:") else await asyncio.shield(self.ready)

    @property
    def was_ready(self) -> bool:
        """Whether it has ever said that it serves."""
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None

    def same_address(self) -> tuple[str, ...]:
        """Its arguments, with the port that it was given in place of port 0: for its next life."""
        if not self.was_ready:
            return tuple(self.arguments)
        given = list(self.arguments)
        given[given.index("--listen") + 1] = self.ready.result()
        return tuple(given)

    def poll(self) -> int | None:
        """Its exit status, None while it lives."""
        return self._process.poll()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    async def ended_by(self, deadline: float) -> bool:
        """Whether it ended in time; it is killed if not."""
        while self.poll() is None:
            if time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                return False
            await asyncio.sleep(0.01)
        return True

    def last_words(self) -> str:
        """Why it ended: the sentence with which it refused to start, else its status."""
        self._hear_all()
        refused = self.ready.exception() if not self.ready.cancelled() else None
        return str(refused or f"The {self.name} ended with status {self.poll()}; see {self._log.path}.")

    def close(self) -> None:
        """Keeps what it said last, and lets go of the pipes."""
        self._keep()
        self._hear_all()
        loop = asyncio.get_running_loop()
        for fd in (self._said, self._told):
            loop.remove_reader(fd)
            os.close(fd)
        self._log.close()

    def _keep(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._said, 65536):
                self._log.write(data)
            asyncio.get_running_loop().remove_reader(self._said)

    def _hear_all(self) -> None:
        if not self.ready.done():
            self._hear()

    def _hear(self) -> None:
        """The ready line, or the end of a service that never was."""
        asyncio.get_running_loop().remove_reader(self._told)
        try:
            line = os.read(self._told, 65536)
        except BlockingIOError:
            line = b""
        if self.ready.done():
            return
        try:
            told = json.loads(line)
        except ValueError:
            told = {"error": f"The {self.name} ended before it was ready; see {self._log.path}."}
        if "address" in told:
            self.ready.set_result(told["address"])
        else:
            self.ready.set_exception(Refused(told["error"]))


def _pipe(opened: ExitStack) -> tuple[int, int]:
    """Its two ends, which are closed with `opened`."""
    ends = os.pipe()
    for each in ends:
        opened.callback(os.close, each)
    return ends


class BoundedLog:
    """A log file that begins anew when it is full; the one before is kept beside it. What the disk refuses is lost."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._file = self._open()

    def write(self, data: bytes) -> None:
        with suppress(OSError):
            if self._file.tell() + len(data) > self._limit:
                self._file.close()
                self.path.replace(self.path.with_suffix(".log.1"))
                self._file = self._open()
            self._file.write(data)

    def close(self) -> None:
        self._file.close()

    def _open(self) -> IO[bytes]:
        return self.path.open("ab", buffering=0)
