"""The CPU time and the memory of processes, as /proc tells them.

/proc/*/stat ──one pass──▶ processes, who is below whom ──▶ CPU seconds, resident bytes
/proc/PID/smaps_rollup ──▶ proportional bytes (a page that several processes share counts once)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """One process: its user and system seconds, those of ended children that it has waited for, resident bytes."""

    pid: int
    parent: int
    own: float
    waited: float
    resident: int


def process(stat: str) -> Process:
    """Reads the text of a /proc/PID/stat; the name in it may hold anything."""
    pid, _, rest = stat.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    user, system, waited_user, waited_system = map(int, fields[11:15])
    own, waited = (user + system) / _TICK, (waited_user + waited_system) / _TICK
    return Process(int(pid), int(fields[1]), own, waited, int(fields[21]) * _PAGE)


def processes() -> dict[int, Process]:
    """Every process of this host, by its number."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                found[int(entry.name)] = process(Path(entry.path, "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def below(root: int, found: dict[int, Process]) -> list[Process]:
    """Children, their children, and so on."""
    children: dict[int, list[Process]] = {}
    for each in found.values():
        children.setdefault(each.parent, []).append(each)
    reached, waiting = [], list(children.get(root, []))
    while waiting:
        each = waiting.pop()
        reached.append(each)
        waiting += children.get(each.pid, [])
    return reached


def proportional(pid: int) -> int:
    """Bytes of a living process, each shared page by its share; 0 of one that has ended or may not be read."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
