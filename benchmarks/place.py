"""Where a benchmark runs: its folders, its number of workers and rounds, and the peers that take part."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peer import Peer

if TYPE_CHECKING:
    from collections.abc import Callable

#: Those that need nothing but our own environment.
OURS = ("process_pool", "multiprocessing_pool", "by_hand")
#: Those of the environment that `make bench-peers` makes.
THEIRS = ("pebble_pool", "ray_actors", "ray_data", "dask_distributed", "spark", "daft_frames")


@dataclass(frozen=True)
class Place:
    """`folder` is gone after the benchmark; `inputs` is kept, so that large inputs are made once."""

    folder: Path
    inputs: Path
    workers: int
    rounds: int
    peers: dict[str, Peer]

    def made(self, name: str, make: Callable[[Path], object]) -> Path:
        """An input that `make` writes at the path that it is given, if no earlier run has."""
        whole, begun = self.inputs / name, self.inputs / f"{name}.begun"
        if not whole.exists():
            self.inputs.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(begun, ignore_errors=True)
            make(begun)
            begun.rename(whole)
        return whole


def peers(folder: Path, chosen: list[str], python: Path) -> dict[str, Peer]:
    """By name; `python` is the interpreter of their own environment."""
    ours = {name: Peer(Path(sys.executable), name, folder) for name in OURS}
    return ours | {name: Peer(python, name, folder) for name in chosen}
