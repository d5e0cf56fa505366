"""The assembly: from frames in many segments to a hidden output file and a hidden report in the folder of the output.

spool (places, failures) ──▶ frames, checked ──▶ .batchmesh-<job>-output
                               └─ failed lines ─▶ .batchmesh-<job>-report/
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from batchmesh.rows.joining import joining_for
from batchmesh.segment import FrameDamaged

from .frames import Damaged, Frame, FrameReader, LongBody
from .manifest import FileIdentity
from .report import FailedItems, write_report
from .reservation import hidden_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batchmesh.rows.joining import RowWriter

    from .spool import Spool

_BUFFER = 4 * 2**20
_NAMED_DAMAGED = 100_000


class FramesDamagedError(Exception):
    """Frames of these mini-batches are not what their places say; nothing was published."""

    def __init__(self, mini_batches: list[int]) -> None:
        super().__init__(f"{len(mini_batches)} damaged frames")
        # Each once, however many of its parts are damaged. They have to fit into one message; the rest shows next time.
        self.mini_batches = list(dict.fromkeys(mini_batches))[:_NAMED_DAMAGED]


class Prepared(NamedTuple):
    """What is hidden in the folder of an output, whole and durable, to be published."""

    rows: int
    bytes: int
    #: The hidden output; inode 0 when the job writes no append_row file.
    output: FileIdentity


class Order(NamedTuple):
    """What is asked for: where, whose, and whether it has a file."""

    folder: Path
    job_id: str
    #: Empty for a report alone, and for a job whose script writes its own files.
    file_name: str
    report_only: bool
    #: The scheduler's part of the report.
    summary: dict[str, Any]

    def hidden(self, what: str) -> Path:
        """Something of it that is not published yet."""
        return self.folder / hidden_name(self.job_id, what)


class Assembly:
    """The work of one commit before anything is visible."""

    def __init__(self, order: Order, append_row_file_name: str, spool: Spool, reader: FrameReader) -> None:
        """`append_row_file_name` is what the frames were rendered for, whether or not the file is written."""
        self._order = order
        self._spool = spool
        self._reader = reader
        self._rows = 0
        self._join = joining_for(append_row_file_name)

    def prepare(self) -> Prepared:
        """Writes the hidden output and the hidden report. Raises FramesDamagedError."""
        report = self._order.hidden("report")
        report.mkdir()
        failed = FailedItems(report / "failed_items.jsonl", self._spool.failed())
        output, size = FileIdentity(0, 0), 0
        try:
            if self._order.file_name:
                size, output = self._write_output(failed)
            else:
                self._read_only(failed)
            failed.complete()
        finally:
            failed.close()
        write_report(report, self._whole_summary(size), self._spool.processed)
        return Prepared(self._rows if self._order.file_name else 0, size, output)

    def _whole_summary(self, size: int) -> dict[str, Any]:
        return {
            **self._order.summary,
            "output_rows": self._rows if self._order.file_name else 0,
            "output_bytes": size,
            "columns": self._join.columns(),
            "columns_joined_to_string": self._join.joined_to_string(),
            "files_without_rows": {
                "count": self._spool.files_without_rows_count,
                "first": self._spool.files_without_rows,
            },
        }

    def _frames(self) -> Iterable[Frame | Damaged]:
        return self._reader.frames(self._spool.places())

    def _read_only(self, failed: FailedItems) -> None:
        damaged = []
        for frame in self._frames():
            if isinstance(frame, Damaged):
                damaged.append(frame.mini_batch)
            elif frame.failed_lines:
                failed.add(frame.header.mini_batch, frame.failed_lines)
        if damaged and not self._order.report_only:
            raise FramesDamagedError(damaged)

    def _write_output(self, failed: FailedItems) -> tuple[int, FileIdentity]:
        """Bytes of the hidden output, and by which it is known again."""
        with self._order.hidden("output").open("wb", _BUFFER) as out:
            if not self._write_as_it_comes(out, failed):
                out.seek(0)
                out.truncate()
                self._write_joined(out)
            out.flush()
            os.fsync(out.fileno())
            status = os.fstat(out.fileno())
            return status.st_size, FileIdentity.of(status)

    def _write_as_it_comes(self, out: BinaryIO, failed: FailedItems) -> bool:
        """One pass that checks, learns the columns and writes as long as they fit; returns whether all was written."""
        writer: RowWriter | None = None
        damaged: list[int] = []
        last: bytes | None = None
        fits = True
        for frame in self._frames():
            if isinstance(frame, Damaged):
                damaged.append(frame.mini_batch)
                continue
            self._rows += frame.header.rows
            if frame.failed_lines:
                failed.add(frame.header.mini_batch, frame.failed_lines)
            if frame.schema != last:
                changed = self._join.learn(frame.schema)
                fits = fits and (writer is None or not changed)
                last = frame.schema
            if fits and not damaged:
                writer = writer or self._join.writer(out)
                _put(writer, frame)
        if writer is None:
            writer = self._join.writer(out)
        writer.close()
        if damaged:
            raise FramesDamagedError(damaged)
        return fits

    def _write_joined(self, out: BinaryIO) -> None:
        """The second pass, with columns that are settled."""
        writer = self._join.writer(out)
        for frame in self._frames():
            if isinstance(frame, Damaged):
                raise FramesDamagedError([frame.mini_batch])
            _put(writer, frame)
        writer.close()


def _put(writer: RowWriter, frame: Frame) -> None:
    if not isinstance(frame.body, LongBody):
        writer.write(frame.schema, frame.body)
        return
    try:
        if writer.moves(frame.schema):
            for piece in frame.body.pieces():
                writer.write(frame.schema, piece)
        else:
            writer.write(frame.schema, frame.body.whole())
    except FrameDamaged:
        raise FramesDamagedError([frame.header.mini_batch]) from None
