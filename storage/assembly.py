"""The assembly: from frames in many segments to a hidden output file and a hidden report in the folder of the output.

spool (places, failures) ──▶ frames, checked ─┬─ bodies ───────▶ .batchmesh-<job>-output
                                              └─ failed lines ─▶ .batchmesh-<job>-report/

A body of text whose columns are the joined ones goes as it is, from the buffer in which it was checked: 3.0 GB a second
of one core. A copy in the kernel, after a check of its own, would make 2.4.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from batchmesh.rows.joining import joining_for
from batchmesh.segment import FrameDamaged

from .durable_file import DurableFile
from .frames import Damaged, FrameReader, LongFrame, Run
from .manifest import FileIdentity
from .report import FailedItems, write_report
from .reservation import hidden_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batchmesh.rows.joining import RowWriter

    from .spool import Spool

#: Bytes that are gathered; what is longer goes past the buffer.
_BUFFER = 2**18
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

    def _frames(self) -> Iterable[Run | LongFrame | Damaged]:
        return self._reader.frames(self._spool.places())

    def _read_only(self, failed: FailedItems) -> None:
        damaged = []
        for found in self._frames():
            try:
                _put(None, found)
            except FramesDamagedError as error:
                damaged += error.mini_batches
            else:
                _tell(failed, found)
        if damaged and not self._order.report_only:
            raise FramesDamagedError(damaged)

    def _write_output(self, failed: FailedItems) -> tuple[int, FileIdentity]:
        """Bytes of the hidden output, and by which it is known again."""
        file = DurableFile(self._order.hidden("output"))
        with io.BufferedWriter(file, _BUFFER) as out:
            if not self._write_as_it_comes(out, failed):
                out.seek(0)
                out.truncate()
                self._write_joined(out)
            out.flush()
            file.sync()
            status = os.fstat(file.fileno())
            return status.st_size, FileIdentity.of(status)

    def _write_as_it_comes(self, out: BinaryIO, failed: FailedItems) -> bool:
        """One pass that checks, learns the columns and writes as long as they fit; returns whether all was written."""
        writer: RowWriter | None = None
        damaged: list[int] = []
        last: bytes | None = None
        fits = True
        for found in self._frames():
            if not isinstance(found, Damaged):
                self._rows += found.rows
                _tell(failed, found)
                if found.schema != last:
                    changed = self._join.learn(found.schema)
                    fits = fits and (writer is None or not changed)
                    last = found.schema
                if fits and not damaged:
                    writer = writer or self._join.writer(out)
            try:
                _put(writer if fits and not damaged else None, found)
            except FramesDamagedError as error:
                damaged += error.mini_batches
        if writer is None:
            writer = self._join.writer(out)
        writer.close()
        if damaged:
            raise FramesDamagedError(damaged)
        return fits

    def _write_joined(self, out: BinaryIO) -> None:
        """The second pass, with columns that are settled."""
        writer = self._join.writer(out)
        for found in self._frames():
            _put(writer, found)
        writer.close()


def _tell(failed: FailedItems, found: Run | LongFrame | Damaged) -> None:
    if not isinstance(found, Damaged):
        for mini_batch, lines in found.failed:
            failed.add(mini_batch, lines)


def _put(writer: RowWriter | None, found: Run | LongFrame | Damaged) -> None:
    """Writes it or, without a writer, sees that it is sound. Raises FramesDamagedError."""
    if isinstance(found, Run):
        if writer is not None:
            writer.write(found.schema, found.bodies)
        return
    if isinstance(found, Damaged):
        raise FramesDamagedError([found.mini_batch])
    try:
        _put_long(writer, found)
    except FrameDamaged:
        raise FramesDamagedError([found.mini_batch]) from None


def _put_long(writer: RowWriter | None, frame: LongFrame) -> None:
    if writer is None:
        if not frame.is_checked:
            frame.body.check()
    elif writer.moves(frame.schema):
        for piece in frame.body.pieces():
            writer.write(frame.schema, [piece])
    else:
        writer.write(frame.schema, [frame.body.whole()])
