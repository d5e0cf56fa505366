"""What this process's control group (Linux, version 1 or 2) says of memory: its limit, and how often it ran out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC, _MOUNTED = Path("/proc"), Path("/sys/fs/cgroup")


def memory_limit(proc: Path = _PROC, mounted: Path = _MOUNTED) -> int:
    """Bytes that this process and its like may use: the node's memory, or less where a group's limit is less."""
    limits = [_total(proc)]
    for folder in _folders(proc, mounted):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number
                limits.append(int((folder / name).read_text()))
    return min(limits)


def ended_for_memory(proc: Path = _PROC, mounted: Path = _MOUNTED) -> int | None:
    """How many processes of this group the kernel has ended so far because memory ran out; None if nobody counts."""
    for folder in _folders(proc, mounted):
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                counts = dict(line.split() for line in (folder / name).read_text().splitlines())
                if "oom_kill" in counts:
                    return int(counts["oom_kill"])
    return None


def _total(proc: Path) -> int:
    """Bytes of the whole node."""
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/meminfo tells no MemTotal")


def _folders(proc: Path, mounted: Path) -> Iterator[Path]:
    """Those of the groups that this process is in, innermost first.

    In a container the innermost may be what is mounted, whatever /proc says.
    """
    with contextlib.suppress(OSError):
        for line in (proc / "self/cgroup").read_text().splitlines():
            _, controllers, inside = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            roots = [mounted / "memory"] if controllers else [mounted, mounted / "unified"]
            for root in roots:
                folder = root / inside.lstrip("/")
                yield from (each for each in (folder, *folder.parents) if each.is_relative_to(root) and each.is_dir())
