"""What `make bench` runs: the whole mesh beside the plain standard library, on this machine, in the same minutes."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

import grpc
import no_op
import pandas as pd
import pyarrow as pa
import rows
from measured import table
from mesh import Mesh

from batchmesh.version import VERSION


def parse() -> argparse.Namespace:
    """The sizes of the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--mini-batches", type=int, default=20_000, help="no-op mini-batches of ten paths; 0: none")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the CSV table; 0: none")
    parser.add_argument("--workers", type=int, default=2, help="worker processes, on both sides")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each; at least 3")
    return parser.parse_args()


def machine() -> str:
    """What the figures are of."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = {"Python": platform.python_version(), "batchmesh": VERSION}
    versions |= {each.__name__: each.__version__ for each in (grpc, pa, pd)}
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.platform()}\n{named}"


def main() -> int:
    """Prints one table for each benchmark; returns the exit status."""
    given = parse()
    print(machine())
    print(f"{given.workers} workers on each side, {given.rounds} rounds of each in turn", flush=True)
    with tempfile.TemporaryDirectory(prefix="batchmesh-bench-") as name:
        folder = Path(name)
        with Mesh(folder, given.workers) as mesh:
            if given.mini_batches:
                (folder / "no_op").mkdir()
                done = no_op.measure(mesh, folder / "no_op", given.mini_batches, given.workers, given.rounds)
                print(table(f"{given.mini_batches:,} no-op mini-batches of {no_op.SIZE} paths", done), flush=True)
            if given.rows:
                (folder / "rows").mkdir()
                done = rows.measure(mesh, folder / "rows", given.rows, given.workers, given.rounds)
                print(table(f"{given.rows:,} rows, CSV to CSV", done), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
