"""The slices of a Parquet file, by its row groups alone: no byte of it is looked at.

Slice fields: as of parquet.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from batchmesh.data.slices import Piece, SliceFields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.data.size import MiniBatchSize


class RowGroup(NamedTuple):
    """`number` counts all of the file's from 0, `start` its rows; the ones without rows are left out."""

    number: int
    start: int
    rows: int
    bytes: int


class Footer(NamedTuple):
    """What a file says of itself; `optional` are the integer and bool columns with nulls."""

    groups: list[RowGroup]
    optional: list[str]


def pieces(footer: Footer, of_file: SliceFields, size: MiniBatchSize, after: dict[str, int] | None) -> Iterator[Piece]:
    """The slices in order, from `after` (an earlier Piece's) on; `of_file` are the fields that tell which file."""
    first = 0 if after is None else after["row"]
    of_all = {"kind": "parquet", **of_file, "optional": footer.optional}
    runs = _by_rows(footer.groups, size.amount) if size.unit == "rows" else _by_bytes(footer.groups, size.amount)
    for run in runs:
        start, end = max(run.start, first), run.start + run.rows
        if start < end:
            affinity = 0 if run.group is None else _affinity(of_file["file"], run.group)
            fields = {**of_all, "row": start + 1, "rows": end - start}
            yield Piece(end - start, fields, affinity, {"row": end})


class _Run(NamedTuple):
    """Rows from `start` (from 0) on; `group` is the row group it shares with neighbours, None if it shares none."""

    start: int
    rows: int
    group: int | None


def _by_rows(groups: list[RowGroup], amount: int) -> Iterator[_Run]:
    """Exactly `amount` rows each, whatever the row groups are; neighbours begin in the same one."""
    total = groups[-1].start + groups[-1].rows if groups else 0
    at = 0
    for start in range(0, total, amount):
        while start >= groups[at].start + groups[at].rows:
            at += 1
        yield _Run(start, min(amount, total - start), groups[at].number)


def _by_bytes(groups: list[RowGroup], amount: int) -> Iterator[_Run]:
    """Large row groups in even parts, small ones joined; no run reaches into a row group that others read, too."""
    joined: list[RowGroup] = []
    together = 0
    for group in groups:
        if joined and together + group.bytes > amount:
            yield _joined(joined)
            joined, together = [], 0
        if group.bytes > amount:
            yield from _parts(group, amount)
        else:
            joined.append(group)
            together += group.bytes
    if joined:
        yield _joined(joined)


def _joined(groups: list[RowGroup]) -> _Run:
    return _Run(groups[0].start, sum(group.rows for group in groups), None)


def _parts(group: RowGroup, amount: int) -> Iterator[_Run]:
    """Of half to one and a half of `amount`, for to read any part decodes all; each row has its share of the bytes."""
    count = min(group.rows, round(group.bytes / amount))
    edges = [group.rows * index // count for index in range(count + 1)]
    for start, end in zip(edges, edges[1:]):  # noqa: B905, RUF007  (CPython 3.9)
        yield _Run(group.start + start, end - start, group.number if count > 1 else None)


def _affinity(path: str, group: int) -> int:
    """The same in every process, never 0, below 2 ** 63."""
    digest = hashlib.blake2b(os.fsencode(path) + b"\0%d" % group, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1 or 1
