"""What the kernel (Linux) tells of processes: who belongs to which group, since when, and what it weighs.

A process that has ended meanwhile is no error: it is not there.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

_PROC = "/proc"
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
#: Lines of smaps_rollup that count: memory that only the end of a process gives back, shared pages in equal parts.
_OWN = (b"Pss_Anon:", b"Pss_Shmem:")


class Process(NamedTuple):
    """`started` is in clock ticks since the boot: with it and the boot's id a process id means one process for good."""

    group: int
    started: int
    #: It has ended, and nobody has asked how.
    is_zombie: bool


def exists() -> bool:
    """Whether this system has such a table."""
    return os.path.exists(f"{_PROC}/self/stat")


def boot_id() -> str:
    return Path(_PROC, "sys/kernel/random/boot_id").read_text().strip()


def pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def process(pid: int) -> Process | None:
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return Process(int(fields[2]), int(fields[19]), fields[0] in b"ZX") if len(fields) > 19 else None


def members(group: int) -> dict[int, Process]:
    """The living processes of a group, found by looking at all."""
    found = ((pid, process(pid)) for pid in pids())
    return {pid: each for pid, each in found if each is not None and each.group == group and not each.is_zombie}


def has_variable(pid: int, name: str, value: str) -> bool:
    """Whether the process was started with that environment variable; False where that may not be read."""
    with contextlib.suppress(OSError), open(f"{_PROC}/{pid}/environ", "rb") as file:
        return os.fsencode(f"{name}={value}") in file.read().split(b"\0")
    return False


def resident(pid: int) -> int:
    """Bytes in memory, mapped files and what it shares with others included: never less than own()."""
    with contextlib.suppress(OSError, IndexError), open(f"{_PROC}/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE
    return 0


def own(pid: int) -> int:
    """Bytes that its end would give back, its part of shared ones included. Takes long for a large process."""
    with contextlib.suppress(OSError), open(f"{_PROC}/{pid}/smaps_rollup", "rb") as file:
        found = [int(line.split()[1]) * 1024 for line in file if line.startswith(_OWN)]
        if found:
            return sum(found)
    return resident(pid)
