"""How a service process starts and ends: it says when it is ready, ends on SIGTERM, and ends with its parent."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def end_with_parent(signum: int = signal.SIGKILL) -> None:
    """Asks the kernel (Linux) to send `signum` to this process when the thread that started it ends.

    A parent that has died before this call is noticed: the process ends itself.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent or parent == 1:
        os.kill(os.getpid(), signum)


def announce(ready_fd: int | None, address: str) -> None:
    """Writes one JSON line `{"address": …, "pid": …}` to the pipe that whoever started us reads, and closes it."""
    if ready_fd is None:
        return
    with os.fdopen(ready_fd, "w") as pipe:
        pipe.write(json.dumps({"address": address, "pid": os.getpid()}) + "\n")


def refuse(ready_fd: int | None, sentence: str) -> int:
    """Tells whoever started us, and standard error, why the service does not start; returns the exit status 2."""
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w") as pipe:
            pipe.write(json.dumps({"error": sentence}) + "\n")
    print(f"batchmesh: {sentence}", file=sys.stderr)  # noqa: T201 the sentence is for the person who started us
    return 2


def leave(status: int) -> NoReturn:
    """Ends a process that has closed all that it had; whatever its threads still do is for nobody.

    To take gRPC and the interpreter down in order takes another 30 ms, for which the next mesh of a home would wait.
    """
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


async def until_asked_to_end() -> signal.Signals:
    """Returns the first SIGTERM or SIGINT that this process gets."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()

    def ask(signum: signal.Signals) -> None:
        if not asked.done():
            asked.set_result(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, ask, signum)
    return await asked
