"""Storage's side of the formats: how the frames of a job become one output file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, Protocol

from batchmesh.rows.columns import Columns, columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchmesh.rows.columns import Column
    from batchmesh.segment import Buffer


class RowWriter(Protocol):
    """Writes the rows of one output file; the joined columns are settled."""

    def moves(self, schema: bytes) -> bool:
        """Whether the body of a frame with this schema goes into the file as it is."""

    def write(self, schema: bytes, bodies: Sequence[Buffer]) -> None:
        """Adds the rows of frames with this schema. A body that moves may come in several pieces; any other comes
        whole."""

    def close(self) -> None:
        """Writes what was kept back; the file itself stays open."""


class Join(Protocol):
    """The joined columns of the frames seen so far."""

    def learn(self, schema: bytes) -> bool:
        """Takes the schema of a frame in; returns whether a file begun before no longer fits. Raises ValueError
        when it is none."""

    def columns(self) -> list[str]:
        """Names of the joined columns, in order; empty for text."""

    def joined_to_string(self) -> list[str]:
        """Names of columns that became string because values met in them that do not join."""

    def writer(self, out: BinaryIO) -> RowWriter:
        """Begins a file with the columns joined so far."""


class _ColumnsJoin:
    """The union of the columns, as it is for every format whose bodies are text with columns."""

    def __init__(self, writer: Callable[[BinaryIO, list[Column]], RowWriter]) -> None:
        self._columns = Columns()
        self._writer = writer

    def learn(self, schema: bytes) -> bool:
        return self._columns.learn(columns_of(schema))

    def columns(self) -> list[str]:
        return self._columns.names()

    def joined_to_string(self) -> list[str]:
        return self._columns.mixed()

    def writer(self, out: BinaryIO) -> RowWriter:
        return self._writer(out, self._columns.all())


def joining_for(append_row_file_name: str) -> Join:
    """The other side of rendering.renderer_for: the same extension picks the same format."""
    extension = os.path.splitext(append_row_file_name)[1].lower()
    if extension == ".csv":
        from batchmesh.rows.csv_writer import CsvWriter

        return _ColumnsJoin(CsvWriter)
    if extension == ".jsonl":
        from batchmesh.rows.jsonl import JsonLinesWriter

        return _ColumnsJoin(JsonLinesWriter)
    if extension == ".parquet":
        from batchmesh.rows.parquet import ParquetJoin

        return ParquetJoin()
    from batchmesh.rows.txt import TextJoin

    return TextJoin()
