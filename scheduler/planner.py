"""What the mini-batches of a job are: lists its inputs, splits its tables, one at a time and in output order.

    inputs ──list──▶ files ──┬─ a file input: groups of paths ───────────▶ PlannedMiniBatch
                             └─ a table:  split ─┬─ slices of rows ──────▶ PlannedMiniBatch
                                                 ├─ cannot be read ──────▶ PlannedMiniBatch with a failure
                                                 └─ no rows ─────────────▶ FileWithoutRows

Pure but for reading the inputs; holds one mini-batch and one folder's names, never a list of all.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from batchmesh.data import csv, files, jsonl, parquet
from batchmesh.data.columns import check_types
from batchmesh.data.kinds import kind_of_inputs, kind_of_path
from batchmesh.data.listing import InputRefused, Listed, list_input, list_inputs
from batchmesh.data.size import MiniBatchSize
from batchmesh.data.slices import Piece, UnreadableFile, encode_slice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The kind of failure of an item that no worker ever sees.
UNREADABLE_FILE = "UNREADABLE_FILE"


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """`kind` overrides what the inputs' names say; `csv_header` is "present" or "absent"."""

    inputs: tuple[str, ...]
    kind: str | None = None
    mini_batch_size: str | int | None = None
    csv_header: str = "present"
    csv_types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedFailure:
    """Why a mini-batch of one item never runs; `item` is the file's path, `message` one sentence."""

    kind: str
    message: str
    item: str


@dataclass(frozen=True)
class PlannedMiniBatch:
    """`items` counts files or rows. With a `failure` it never runs. Planning goes on behind it from `cursor`."""

    items: int
    payload: bytes
    affinity: int
    failure: PlannedFailure | None
    cursor: str


@dataclass(frozen=True)
class FileWithoutRows:
    """A table file in which there is nothing to run on, for the report."""

    path: str
    cursor: str


type Planned = PlannedMiniBatch | FileWithoutRows
