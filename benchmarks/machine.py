"""What the figures are of: this machine and the versions of ours; and which peers can run on it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

import grpc
import pandas as pd
import pyarrow as pa

from batchmesh.version import VERSION


def described() -> str:
    """One line: cores, memory, system, and the versions of ours."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = {"Python": platform.python_version(), "batchmesh": VERSION}
    versions |= {each.__name__: each.__version__ for each in (grpc, pa, pd)}
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {platform.platform()}; {named}"


def able(chosen: list[str]) -> list[str]:
    """Those of the peers that can run here: Spark needs a Java."""
    if "spark" in chosen and shutil.which("java") is None:
        print("spark is left out: there is no java", file=sys.stderr, flush=True)
        return [each for each in chosen if each != "spark"]
    return chosen


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
