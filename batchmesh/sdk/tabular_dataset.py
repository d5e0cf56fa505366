"""Rows as items.

file ──fetched──▶ split ──▶ read ──▶ DataFrames of one type, as the workers get them
take, skip, a DataFrame ──▶ Parquet files in the default datastore, a batch each
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchmesh.data.reading import read_slice
from batchmesh.data.size import MiniBatchSize
from batchmesh.data.slices import UnreadableFile, UnreadableSlice
from batchmesh.datastores.reference import Reference
from batchmesh.entries import DEFAULT_DATASTORE
from batchmesh.entries import Dataset as Content
from batchmesh.errors import InputRefused, SpecRefused
from batchmesh.sdk.abstract_dataset import AbstractDataset
from batchmesh.sdk.places import files_at
from batchmesh.sdk.unused import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from batchmesh.data.slices import Piece
    from batchmesh.sdk.workspace import Workspace

#: Bytes of a table that are in memory at once.
_BATCH = MiniBatchSize(32 * 2**20, "bytes")


class TabularDataset(AbstractDataset):
    """The rows of delimited, Parquet or JSON lines files, or of a DataFrame."""

    _frame: pd.DataFrame | None = None

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> TabularDataset:
        """The rows of a DataFrame, which is written into a workspace's default datastore once it is used there.

        Errors: SpecRefused for what is no DataFrame.
        """
        import pandas as pd

        if not isinstance(frame, pd.DataFrame):
            raise SpecRefused(f"A dataset is made of a pandas DataFrame, not of a {type(frame).__name__}.")
        dataset = cls(Content("parquet", ()))
        dataset._frame = frame.reset_index(drop=True)
        return dataset

    def __repr__(self) -> str:
        return (
            super().__repr__() if self._frame is None else f"TabularDataset(a DataFrame of {len(self._frame):,} rows)"
        )

    def to_pandas_dataframe(self, on_error: str = "null", out_of_range_datetime: str = "null") -> pd.DataFrame:
        """All its rows, typed as the workers get them; a row that cannot be read is left out, and said in a log line.

        Errors: InputRefused.
        """
        import pandas as pd

        del on_error, out_of_range_datetime
        frames = list(self.batches())
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def batches(self) -> Iterator[pd.DataFrame]:
        """The rows of its window, in order, in pieces of some 32 MB."""
        passed, end = 0, None if self._take is None else self._skip + self._take
        for frame in self._all_batches():
            first, last = max(self._skip - passed, 0), len(frame) if end is None else end - passed
            passed += len(frame)
            if first < min(last, len(frame)):
                yield frame.iloc[first:last]
            if end is not None and passed >= end:
                return

    @property
    def has_window(self) -> bool:
        return self._frame is not None or super().has_window

    @property
    def read_as(self) -> Content:
        return Content("parquet", self.content.paths) if self.has_window else self.content

    def settled(self, workspace: Workspace) -> Content:
        content = super().settled(workspace)
        return Content("parquet", content.paths) if self.has_window else content

    def window_paths(self, workspace: Workspace) -> tuple[str, ...]:
        """Writes the rows into the default datastore and returns the folder; empty for no rows.

        The folder is named by its content: the same rows again are the same input, which a step may reuse.
        """
        from batchmesh.sdk.datastore import Datastore

        with tempfile.TemporaryDirectory(prefix="batchmesh-") as scratch:
            parts = [
                _written(frame, Path(scratch) / f"part-{number:05}.parquet")
                for number, frame in enumerate(self.batches())
            ]
            folder = f"azureml/datasets/{_digest(parts)}"
            if parts:
                Datastore.get_default(workspace).upload(scratch, folder, show_progress=False)
        return (str(Reference(DEFAULT_DATASTORE, folder)),) if parts else ()

    def _windowed(self, skip: int, take: int | None) -> TabularDataset:
        other = type(self)(self.content, self.workspace, skip=skip, take=take)
        other._frame = self._frame
        return other

    def _all_batches(self) -> Iterator[pd.DataFrame]:
        if self._frame is not None:
            yield self._frame
            return
        with tempfile.TemporaryDirectory(prefix="batchmesh-") as scratch:
            for base in self.content.paths:
                for file in files_at(self.workspace, base):
                    yield from self._read(file.text, file.on_this_host(Path(scratch)))

    def _read(self, name: str, path: Path) -> Iterator[pd.DataFrame]:
        try:
            for piece in _split(str(path), self.content):
                batch = read_slice(piece.fields)
                if batch.failures:
                    log.warning(
                        "%d rows of %s cannot be read and are left out: %s",
                        len(batch.failures),
                        name,
                        batch.failures[0].error,
                    )
                yield batch.items
        except (UnreadableFile, UnreadableSlice) as error:
            raise InputRefused(f"{error}.") from None


def _written(frame: pd.DataFrame, path: Path) -> Path:
    """Errors: InputRefused for columns that Parquet cannot hold."""
    try:
        frame.to_parquet(path, index=False)
    except (ValueError, TypeError) as error:  # pyarrow's are these
        why = " ".join(str(each) for each in error.args)
        raise InputRefused(f"The DataFrame cannot be written as Parquet: {why}; give each column one type.") from None
    return path


def _digest(parts: list[Path]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def _split(path: str, content: Content) -> Iterator[Piece]:
    """The pieces of one file."""
    types: dict[str, Any] = dict(content.csv_types)
    if content.kind == "parquet":
        from batchmesh.data import parquet

        return parquet.split(path, _BATCH)
    if content.kind == "jsonl":
        from batchmesh.data import jsonl

        return jsonl.split(path, _BATCH, types)
    from batchmesh.data import csv

    return csv.split(path, _BATCH, csv.CsvOptions(content.csv_header != "absent", types))
