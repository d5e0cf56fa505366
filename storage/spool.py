"""What a CommitOutput stream says, kept on disk until it is complete: there may be millions of places."""

from __future__ import annotations

import csv
import shutil
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from batchmesh.errors import CutOff

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from batchmesh.v1 import segment_pb2, storage_pb2

#: One place of a frame. `segment` is an index into Spool.segments.
PLACE = np.dtype(
    [("segment", "<u4"), ("offset", "<u8"), ("length", "<u8"), ("mini_batch", "<u8"), ("attempt_id", "<u8")]
)
#: Places read at a time.
_CHUNK = 4096
_BUFFER = 2**20

#: Columns of processed_mini-batches.csv.
PROCESSED_COLUMNS = (
    "id", "tries", "process", "start", "total", "succeeded", "failed", "elapsed", "run() seconds", "status", "error",
)  # fmt: skip
#: Files without rows that a report names.
_NAMED_FILES = 1000


class Spool:
    """One stream's content. All of it blocks. `folder` is its own; discard() removes it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._numbers: dict[str, int] = {}
        self._places = (folder / "places").open("wb", _BUFFER)
        self._lines = (folder / "failed").open("wb", _BUFFER)
        self._failed = (array("Q"), array("Q"))  # mini-batch and length of each run of lines
        self.processed = folder / "processed.csv"
        self._processed = self.processed.open("w", _BUFFER, encoding="utf-8", newline="")
        self._rows = csv.writer(self._processed, lineterminator="\n")
        self._rows.writerow(PROCESSED_COLUMNS)
        self.files_without_rows: list[str] = []
        self.files_without_rows_count = 0
        self._is_whole = False

    def add(self, request: storage_pb2.CommitOutputRequest) -> None:
        """Takes one request in; raises ValueError when its columns do not fit each other, and OSError."""
        self._add_places(request.places)
        self._rows.writerows(_rows(request.processed))
        for mini_batch, lines in zip(request.failed_mini_batch, request.failed_lines, strict=True):
            self._add_failed(mini_batch, lines)
        room = _NAMED_FILES - len(self.files_without_rows)
        self.files_without_rows += request.files_without_rows[: max(room, 0)]
        self.files_without_rows_count += len(request.files_without_rows)
        self._is_whole = request.complete

    def _add_places(self, places: segment_pb2.Places) -> None:
        if not places.offset:
            return
        numbers = np.array([self._numbers.setdefault(name, len(self._numbers)) for name in places.segments], "<u4")
        rows = np.empty(len(places.offset), PLACE)
        rows["segment"] = numbers[np.array(places.segment, "<u4")]
        rows["offset"] = np.array(places.offset, "<u8")
        rows["length"] = np.array(places.length, "<u8")
        rows["mini_batch"] = np.array(places.mini_batch, "<u8")
        rows["attempt_id"] = np.array(places.attempt_id, "<u8")
        self._places.write(rows.tobytes())

    def _add_failed(self, mini_batch: int, lines: bytes) -> None:
        if lines and not lines.endswith(b"\n"):
            lines += b"\n"
        self._lines.write(lines)
        self._failed[0].append(mini_batch)
        self._failed[1].append(len(lines))

    def complete(self) -> None:
        """The stream has ended; raises CutOff when its last request was not among what came."""
        if not self._is_whole:
            raise CutOff("The commit was cut off before its last request, and nothing was written; send it again.")
        for file in (self._places, self._lines, self._processed):
            file.close()

    def segments(self) -> list[str]:
        """Names of the segments, by their numbers in the places."""
        return list(self._numbers)

    def places(self) -> Iterator[np.ndarray[Any, Any]]:
        """The places in their order, some thousand at a time."""
        with (self._folder / "places").open("rb") as file:
            while data := file.read(_CHUNK * PLACE.itemsize):
                yield np.frombuffer(data, PLACE)

    def failed(self) -> Iterator[tuple[int, bytes]]:
        """(mini-batch, its lines), in the order of the mini-batches."""
        mini_batches, lengths = (np.array(column, "<u8") for column in self._failed)
        begins = np.concatenate((np.zeros(1, "<u8"), np.cumsum(lengths, dtype="<u8")))
        with (self._folder / "failed").open("rb") as file:
            for number in np.argsort(mini_batches, kind="stable"):
                file.seek(int(begins[number]))
                yield int(mini_batches[number]), file.read(int(lengths[number]))

    def discard(self) -> None:
        """Leaves nothing behind."""
        for file in (self._places, self._lines, self._processed):
            with suppress(OSError):  # a full disk has been told of already
                file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _rows(processed: Sequence[storage_pb2.ProcessedMiniBatch]) -> Iterator[tuple[object, ...]]:
    for done, moment in zip(processed, _moments([done.started_us for done in processed]), strict=True):
        yield (
            done.mini_batch,
            done.tries,
            f"{done.node}/process{done.process:03}" if done.node else "",
            moment if done.started_us else "",
            done.total_items,
            done.succeeded_items,
            done.failed_items,
            f"{done.elapsed_us / 1e6:.6f}",
            f"{done.run_us / 1e6:.6f}",
            done.status,
            done.error,
        )


def _moments(microseconds: list[int]) -> list[str]:
    """ISO 8601 in UTC. All at once, as there may be a million."""
    moments = np.array(microseconds, "<i8").astype("datetime64[us]")
    return [f"{moment}Z" for moment in np.datetime_as_string(moments, unit="us").tolist()]
