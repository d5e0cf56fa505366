"""What the mini-batches of a workload are, the same for the mesh and for each peer."""

from __future__ import annotations

#: Paths in each mini-batch, and files in each folder of an input.
SIZE, FOLDER = 10, 1000


def paths(folder: str, count: int) -> list[str]:
    """The paths of `count` files in folders of a thousand, in the order of a job."""
    return [f"{folder}/{number // FOLDER:04}/{number:07}" for number in range(count)]


def mini_batches(folder: str, count: int) -> list[list[str]]:
    """`count` mini-batches of ten of those paths."""
    every = paths(folder, count * SIZE)
    return [every[at : at + SIZE] for at in range(0, len(every), SIZE)]
