"""The scheduler's part of a job's report: one line a failed item, one row a mini-batch, and the summary."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from batchmesh.data.slices import decode_slice, part_of
from batchmesh.failed_items import failed_line
from batchmesh.v1 import job_pb2, storage_pb2
from batchmesh.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.data.slices import SliceFields

    from .jobs import JobRecord
    from .model import Counts, Failure, State
    from .report_rows import ReportRow


_SUCCEEDED = storage_pb2.ProcessedMiniBatches.STATUS_SUCCEEDED
_FAILED = storage_pb2.ProcessedMiniBatches.STATUS_FAILED
_NOT_REACHED = storage_pb2.ProcessedMiniBatches.STATUS_NOT_REACHED


class ProcessedRow(NamedTuple):
    """A row of processed_mini-batches.csv. It ran last on `node`, "" if it never ran; `error` is one line."""

    mini_batch: int
    tries: int
    node: str
    process: int
    started_us: int
    items: int
    succeeded: int
    failed: int
    elapsed_us: int
    run_us: int
    status: storage_pb2.ProcessedMiniBatches.Status.ValueType
    error: str


class MiniBatchReport:
    """What became of one mini-batch: `rows` are its outcomes in the order of its items, one unless it was split."""

    def __init__(self, rows: list[ReportRow], run_max_try: int) -> None:
        self.idx = rows[0].idx
        self._rows = rows
        self._run_max_try = run_max_try
        self._unreadable = rows[0].planned_failure
        settled = sum([row.part_items for row in rows if row.failure is None or row.final])
        self._is_settled = settled == rows[0].items

    @property
    def good(self) -> list[ReportRow]:
        """Those of its rows whose frames count: of a mini-batch that was not searched to its end none does."""
        return [row for row in self._rows if row.length and row.failure is None] if self._is_settled else []

    def processed(self) -> ProcessedRow:
        """Its row of processed_mini-batches.csv."""
        row = self._rows[0] if len(self._rows) == 1 else _joined(self._rows, self._run_max_try)
        failure = self._unreadable or row.failure
        reached = self._is_settled or self._unreadable is not None
        return ProcessedRow(
            mini_batch=self.idx,
            tries=row.tries,
            node=row.node,
            process=row.process,
            started_us=row.started_us,
            items=row.items,
            succeeded=row.succeeded if reached else 0,
            failed=row.items if self._unreadable is not None else row.failed if reached else 0,
            elapsed_us=row.elapsed_us,
            run_us=row.run_us,
            status=_NOT_REACHED if not reached else _SUCCEEDED if failure is None else _FAILED,
            error=_one_line(failure) if failure is not None else "",
        )

    def failed_lines(self) -> Iterator[bytes]:
        """Lines of failed_items.jsonl: one a file, or one for each part of a table that failed."""
        if self._unreadable is not None:
            row = self._rows[0]
            yield from self._lines(decode_slice(row.payload), row.items, self._unreadable, tries=0)
        elif self._is_settled:
            for row in self._rows:
                if row.failure is not None:
                    tries = self._run_max_try + row.level if row.level else row.tries
                    yield from self._lines(_slice(row), row.part_items, row.failure, tries)

    def _lines(self, fields: SliceFields, count: int, blob: bytes, tries: int) -> Iterator[bytes]:
        failure = job_pb2.Failure.FromString(blob)
        rest: dict[str, Any] = {
            "kind": job_pb2.Failure.Kind.Name(failure.kind).removeprefix("KIND_"),
            "error": failure.message,
            "traceback": failure.traceback,
            "tries": tries,
        }
        if fields.get("kind") == "files":
            for path in fields["files"]:
                yield failed_line(item=path, slice_fields=None, count=1, **rest)
        elif self._unreadable is not None:
            yield failed_line(item=fields.get("file"), slice_fields=None, count=count, **rest)
        elif count == 1 and "part" in fields and self._rows_are_in_order:
            item = {"file": fields["file"], "line": None, "row": fields["row"] + fields["part"][0], "column": None}
            yield failed_line(item=item, slice_fields=None, count=1, **rest)
        else:
            yield failed_line(item=None, slice_fields=fields, count=count, **rest)

    @property
    def _rows_are_in_order(self) -> bool:
        """Of a table: whether no row can have been unreadable. Those would stand behind all others, and shift these."""
        return all(row.part_items == 1 if row.failure is not None else not row.failed for row in self._rows)


def summary(record: JobRecord, state: State, counts: Counts, error: Failure | None) -> str:
    """summary.json as far as the scheduler knows it: state, counts, times, rates."""
    row, now = record.row, time.time()
    seconds = now - (row.started or row.submitted)
    done = counts.succeeded_items + counts.failed_items
    return json.dumps(
        {
            "job_id": row.job_id,
            "state": state.name,
            "error": {"kind": error.kind.name, "message": error.message, "traceback": error.traceback}
            if error
            else None,
            "entry_script": record.spec.entry_script,
            "inputs": list(record.spec.inputs),
            "mini_batch_size": record.spec.mini_batch_size,
            "output_action": "append_row" if record.state and record.state.limits.needs_rows else "summary_only",
            "mini_batches": {
                "planned": counts.planned_mini_batches,
                "succeeded": counts.succeeded_mini_batches,
                "failed": counts.failed_mini_batches,
                "unreadable": counts.unreadable_mini_batches,
                "not_reached": counts.planned_mini_batches - counts.settled,
            },
            "items": {
                "planned": counts.planned_items,
                "succeeded": counts.succeeded_items,
                "failed": counts.failed_items,
                "not_reached": counts.planned_items - done,
            },
            "planning_ended": counts.planning_ended,
            "retried_attempts": counts.retried_attempts,
            "submitted": _iso(row.submitted),
            "started": _iso(row.started) if row.started else None,
            "ended": _iso(now),
            "seconds": round(seconds, 3),
            "items_per_second": round(done / seconds, 3) if seconds > 0 else None,
            "mini_batches_per_second": round(counts.settled / seconds, 3) if seconds > 0 else None,
            "batchmesh_version": VERSION,
        }
    )


def _joined(rows: list[ReportRow], run_max_try: int) -> ReportRow:
    """The parts of a mini-batch as one row: their sums, the first failure, and where and when the last of them ran."""
    last = max(rows, key=lambda row: row.attempt)
    return last._replace(
        tries=run_max_try + max(row.runs for row in rows),
        succeeded=sum(row.succeeded for row in rows),
        failed=sum(row.failed for row in rows),
        elapsed_us=sum(row.elapsed_us for row in rows),
        run_us=sum(row.run_us for row in rows),
        failure=next((row.failure for row in rows if row.failure is not None), None),
    )


def _slice(row: ReportRow) -> SliceFields:
    fields = decode_slice(row.payload)
    return part_of(fields, row.first, row.part_items) if row.level else fields


def _one_line(blob: bytes) -> str:
    return " ".join(job_pb2.Failure.FromString(blob).message.split())


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
