"""The processes of a home, however they came to be, and clients of it in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Joins the mesh of its home, tells the scheduler's address, and stays until its standard input ends.
CLIENT = """
import sys
from batchmesh import Client
with Client() as client:
    client.mesh()
    print(client.address, flush=True)
    sys.stdin.read()
"""


def processes_of(home: Path) -> dict[int, str]:
    """Process id to command line of each living process that was started, however far down, for that home."""
    mark = f"BATCHMESH_HOME={home}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return {pid: line for pid, line in found.items() if line}


def process_of(home: Path, module: str) -> int:
    """The one process of the home that runs `python -m module`."""
    (pid,) = (pid for pid, line in processes_of(home).items() if f"-m {module} " in line)
    return pid


def environment(home: Path) -> dict[str, str]:
    """What a command of that home runs with."""
    return {**os.environ, "BATCHMESH_HOME": str(home)}


def command(home: Path, *arguments: str | Path, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Runs `batchmesh …` in that home to its end."""
    return subprocess.run(
        [sys.executable, "-m", "batchmesh.cli", *map(str, arguments)],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@contextmanager
def started(home: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`batchmesh …` in that home, in the background; killed at the end of the block if it is still there."""
    with _killed_at_the_end([sys.executable, "-m", "batchmesh.cli", *map(str, arguments)], home) as process:
        yield process


@contextmanager
def client_of(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A client in a process of its own that has joined the mesh of that home, and the scheduler's address."""
    with _killed_at_the_end([sys.executable, "-c", CLIENT], home) as process:
        address = first_line(process)
        assert address, process.stderr and process.stderr.read()
        yield process, address


def first_line(process: subprocess.Popen[str]) -> str:
    """Waits for the first line of its standard output; empty when it ended without one."""
    return _stream(process.stdout).readline().strip()


def said(process: subprocess.Popen[str]) -> str:
    """All of its standard error, up to its end."""
    return _stream(process.stderr).read()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def _killed_at_the_end(line: list[str], home: Path) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(line, env=environment(home), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
