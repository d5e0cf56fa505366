"""The commit: from frames in many segments to one file at the output's path, visible only when all of it is there.

    spool (places, failures) ──▶ frames, checked ──▶ .batchmesh-<job>-output ──┐ renamed last
                                   └─ failed lines ─▶ .batchmesh-<job>-report ─┴▶ job_report/ ──▶ manifest, release

A crash anywhere before the manifest says "published" is healed by the same commit again, which redoes all of it. A job
that goes on after its end commits again, with another digest: its earlier output stays where it is until the rename. A
round that failed or was cancelled writes a report alone: the earlier output stays for good, beside that report.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from batchmesh.errors import NoOutput, OutputChanged, SpecRefused
from batchmesh.rows.joining import joining_for
from batchmesh.segment import FrameDamaged
from batchmesh.v1 import job_pb2

from .disk import said_clearly, sync_folder
from .frames import Damaged, Frame, FrameReader, LongBody
from .manifest import FileIdentity, Manifest, Manifests
from .report import FailedItems, publish_report, write_report
from .reservation import REPORT, Reservation, Reservations, clear_hidden, hidden_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchmesh.rows.joining import RowWriter
    from batchmesh.v1 import storage_pb2

    from .places import Places
    from .spool import Spool

_BUFFER = 4 * 2**20
_NAMED_DAMAGED = 100_000


class FramesDamagedError(Exception):
    """Frames of these mini-batches are not what their places say; nothing was published."""

    def __init__(self, mini_batches: list[int]) -> None:
        super().__init__(f"{len(mini_batches)} damaged frames")
        # Each once, however many of its parts are damaged. They have to fit into one message; the rest shows next time.
        self.mini_batches = list(dict.fromkeys(mini_batches))[:_NAMED_DAMAGED]


class Outputs:
    """The outputs of all jobs. All of it blocks; one commit of a job at a time."""

    def __init__(self, places: Places, reservations: Reservations, manifests: Manifests) -> None:
        self._places = places
        self._reservations = reservations
        self._manifests = manifests

    def published(self, job_id: str, digest: str) -> Manifest | None:
        """The manifest of a commit with this digest that was published; completes its release."""
        manifest = self._manifests.of(job_id)
        if manifest is None or not manifest.published or manifest.digest != digest:
            return None
        self._reservations.release(job_id)
        return manifest

    def open(self, job_id: str) -> BinaryIO:
        """The published append_row file; raises NoOutput."""
        manifest = self._manifests.of(job_id)
        path = Path(manifest.output_path) if manifest and manifest.published and manifest.output_path else None
        if path is None or not path.is_file():
            raise NoOutput(f"Job {job_id} has no output file; it has not succeeded, or its file has been moved.")
        return path.open("rb")

    def commit(self, header: storage_pb2.CommitHeader, spool: Spool) -> Manifest:
        """Publishes; raises FramesDamagedError, OutputChanged, OutputUnwritable, DiskFull or DiskFailing."""
        done = self.published(header.job_id, header.digest)  # by a caller that went away while this one spoke
        if done:
            return done
        held = self._reservations.held(header.job_id, header.output)
        summary = _summary(header.summary_json)
        with said_clearly(held.folder):
            clear_hidden(Path(held.folder), header.job_id)
            reader = FrameReader(self._places, header.job_id, spool.segments())
            try:
                own = self._manifests.own(header.job_id)
                manifest = _Commit(header, held, spool, reader, summary).prepare(own)
                manifest = self._publish(manifest, held)
            except BaseException:
                clear_hidden(Path(held.folder), header.job_id)
                raise
            finally:
                reader.close()
        self._reservations.release(header.job_id)
        return manifest

    def _publish(self, manifest: Manifest, held: Reservation) -> Manifest:
        folder, job_id = Path(held.folder), manifest.job_id
        self._manifests.write(manifest)
        publish_report(
            folder / REPORT, folder / hidden_name(job_id, "report"), folder / hidden_name(job_id, "displaced")
        )
        if manifest.inode:
            (folder / hidden_name(job_id, "output")).replace(folder / Path(manifest.output_path).name)
        sync_folder(folder)
        published = replace(manifest, published=True)
        self._manifests.write(published)
        return published


def _summary(text: str) -> dict[str, Any]:
    try:
        summary = json.loads(text) if text else {}
    except ValueError:
        summary = None
    if not isinstance(summary, dict):
        raise SpecRefused("The summary of the commit is no JSON object.", {"summary_json": "It is no JSON object."})
    return summary


class _Commit:
    """The work before anything is visible."""

    def __init__(
        self,
        header: storage_pb2.CommitHeader,
        held: Reservation,
        spool: Spool,
        reader: FrameReader,
        summary: dict[str, Any],
    ) -> None:
        self._header = header
        self._held = held
        self._folder = Path(held.folder)
        self._spool = spool
        self._reader = reader
        self._summary = summary
        self._rows = 0
        self._writes_file = (
            not header.report_only and header.output_action != job_pb2.OutputAction.OUTPUT_ACTION_SUMMARY_ONLY
        )
        self._join = joining_for(header.append_row_file_name)

    def prepare(self, own: list[FileIdentity]) -> Manifest:
        """Writes the hidden output and the hidden report; returns what is to be published.

        `own` are the files that earlier commits of the job may have left at the output's path.
        """
        report = self._folder / hidden_name(self._header.job_id, "report")
        report.mkdir()
        failed = FailedItems(report / "failed_items.jsonl", self._spool.failed())
        output = FileIdentity(0, 0)
        size = 0
        try:
            if self._writes_file:
                size, output = self._write_output(failed)
            else:
                self._read_only(failed)
            failed.complete()
        finally:
            failed.close()
        write_report(report, self._whole_summary(size), self._spool)
        return self._manifest(size, output, self._standing(own))

    def _manifest(self, size: int, output: FileIdentity, standing: FileIdentity) -> Manifest:
        folder = Path(self._header.output)  # as the client spelled it
        if self._header.report_only:
            path = ""
        elif self._writes_file:
            path = str(folder / self._header.append_row_file_name)
        else:
            path = str(folder)
        return Manifest(
            job_id=self._header.job_id,
            digest=self._header.digest,
            output_path=path,
            report_path=str(folder / REPORT),
            rows=self._rows if self._writes_file else 0,
            bytes=size,
            published=False,
            inode=output.inode,
            modified=output.modified,
            earlier_inode=standing.inode,
            earlier_modified=standing.modified,
        )

    def _standing(self, own: list[FileIdentity]) -> FileIdentity:
        """What of ours stands at the output's path; what has appeared there otherwise is not ours to replace."""
        target = self._folder / self._header.append_row_file_name
        for each in own:
            if each.is_that_of(target):
                return each
        if self._writes_file and not self._held.overwrite and os.path.lexists(target):
            raise OutputChanged(f"{target} was not there when the job began; move it away, and resume the job.")
        return FileIdentity(0, 0)

    def _whole_summary(self, size: int) -> dict[str, Any]:
        return {
            **self._summary,
            "output_rows": self._rows if self._writes_file else 0,
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
        if damaged and not self._header.report_only:
            raise FramesDamagedError(damaged)

    def _write_output(self, failed: FailedItems) -> tuple[int, FileIdentity]:
        """Bytes of the hidden output, and by which it is known again."""
        with (self._folder / hidden_name(self._header.job_id, "output")).open("wb", _BUFFER) as out:
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
