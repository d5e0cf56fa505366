"""A file input: an item is a path. Splitting groups paths; reading hands them over as they are."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from batchmesh.data.slices import Batch, Piece, SliceFields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def split(paths: Iterable[str], amount: int) -> Iterator[Piece]:
    """Mini-batches of `amount` paths, the last one of what is left; never holds more than one of them."""
    paths = iter(paths)
    while group := list(islice(paths, amount)):
        yield Piece(len(group), {"kind": "files", "files": group}, 0, {})


def read(fields: SliceFields) -> Batch:
    return Batch(list(fields["files"]))
