"""One worker's process: how it is started, killed with all it started, and how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

from . import frames

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class WorkerProcess:
    """A fresh interpreter in a session and process group of its own, with a socket, a shared word and two pipes.

    It is to be started on the main thread: the kernel ends it when the thread that started it ends.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], folder: Path) -> None:
        """Starts `command`, an interpreter and the worker that it executes (see zipapp).

        `folder`, which is to be its alone, is its working folder.

        Errors: OSError: no memory, process or descriptor;
        ValueError: `environment` holds a name or value that no process can have."""
        folder.mkdir(parents=True)
        self.folder = folder
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        word_fd = os.memfd_create("batchmesh-word", os.MFD_CLOEXEC)
        os.ftruncate(word_fd, frames.WORD_SIZE)
        self.word = frames.Word(word_fd)
        with theirs:
            try:
                self._process = self._start(command, environment, folder, theirs.fileno(), word_fd)
            except BaseException:
                self.socket.close()
                self.word.close()
                raise
            finally:
                os.close(word_fd)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdout, self.stderr = self._process.stdout, self._process.stderr
        for pipe in (self.stdout, self.stderr):
            os.set_blocking(pipe.fileno(), False)
        #: Readable once the process has ended.
        self.pidfd = os.pidfd_open(self.pid)

    @staticmethod
    def _start(
        command: Sequence[str], environment: dict[str, str], folder: Path, socket_fd: int, word_fd: int
    ) -> subprocess.Popen[bytes]:
        arguments = [str(each) for each in (socket_fd, word_fd, os.getpid())]
        return subprocess.Popen(
            [*command, *arguments],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=(socket_fd, word_fd),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Kills it and everything in its process group. It is still to be reaped."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> str:
        """Call when `pidfd` is readable: ends what the process left behind in its group, and says how it ended."""
        self.kill()
        return ended(self._process.wait())

    def close(self) -> None:
        """Closes the agent's ends, after reap()."""
        self.socket.close()
        self.word.close()
        self.stdout.close()
        self.stderr.close()
        os.close(self.pidfd)


def ended(returncode: int) -> str:
    """How a process ended, as the rest of a sentence that begins with what ended."""
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    try:
        name = f" ({signal.Signals(-returncode).name})"
    except ValueError:
        name = ""
    return f"was killed by signal {-returncode}{name}"
