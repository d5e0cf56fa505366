"""A file input: an item is a path. Splitting groups paths; reading hands them over as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.data.slices import Batch, Piece, SliceFields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batchmesh.data.listing import Run


def split(runs: Iterable[Run], amount: int) -> Iterator[Piece]:
    """Mini-batches of `amount` files, the last one of what is left; one that lies in one folder names that once."""
    paths: list[str] = []
    for folder, names in runs:
        begin = amount - len(paths) if paths else 0
        if begin:
            paths += [folder + name for name in names[:begin]]
            if len(paths) < amount:
                continue
            yield _of_paths(paths)
        end = begin + (len(names) - begin) // amount * amount
        for at in range(begin, end, amount):
            joined = "/".join(names[at : at + amount])
            yield Piece(amount, {"kind": "files", "folder": folder, "names": joined}, 0, {})
        paths = [folder + name for name in names[end:]]
    if paths:
        yield _of_paths(paths)


def _of_paths(paths: list[str]) -> Piece:
    return Piece(len(paths), {"kind": "files", "files": paths}, 0, {})


def last_of(fields: SliceFields) -> str:
    """The path of the last file of a slice as it was split."""
    if "names" in fields:
        return str(fields["folder"] + fields["names"].rpartition("/")[2])
    return str(fields["files"][-1])


def read(fields: SliceFields) -> Batch:
    return Batch(list(fields["files"]))
