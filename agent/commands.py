"""Commands that the agent runs for itself, such as an installer: bounded, and ended with all that they have started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from . import groups
from .capture import Pipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

#: Bytes kept of what a command prints: the last ones, where its errors are.
_KEPT = 64 * 1024
#: Seconds that a killed command has to be gone; one that waits for a dead disk may need longer.
_PATIENCE = 5.0


class Ended(NamedTuple):
    """How a command ended: its exit status, below 0 the signal, and the last of what it printed on either stream."""

    status: int
    said: str


async def run(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], records: groups.Groups, within: float
) -> Ended:
    """Runs a command in a process group of its own, in `folder` and with these environment variables alone.

    Whatever is left of the group is killed when it ends, when `within` seconds are over, and when this is cancelled;
    should the agent be killed, its next life does so. On the main thread, as workers are.
    Errors: OSError (it cannot be started), TimeoutError.
    """
    process = _started(command, folder, {**variables, groups.MARK: records.mark})
    records.add(process.pid)
    said = bytearray()

    def keep(data: bytes) -> None:
        said.extend(data)
        del said[:-_KEPT]

    assert process.stdout is not None
    pipe = Pipe(process.stdout.fileno(), keep)
    try:
        with _end_of(process) as ended:
            await _ended_within(process, ended, within)
        pipe.read()
    finally:
        pipe.close()
        process.stdout.close()
        records.remove(process.pid)
    return Ended(process.wait(), said.decode("utf-8", "replace"))


def _started(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    return process


@contextlib.contextmanager
def _end_of(process: subprocess.Popen[bytes]) -> Iterator[asyncio.Event]:
    """Is set once the process has ended; it is not reaped by that, so that its number stays its own."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


async def _ended_within(process: subprocess.Popen[bytes], ended: asyncio.Event, within: float) -> None:
    """Nothing of its group is left after this, whatever comes of it."""
    try:
        async with asyncio.timeout(within):
            await ended.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await ended.wait()
        process.poll()
