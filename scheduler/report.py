"""The scheduler's part of a job's report: one line a failed item, one row a mini-batch, and the summary."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from batchmesh.data.slices import decode_slice
from batchmesh.failed_items import failed_line
from batchmesh.v1 import job_pb2, storage_pb2
from batchmesh.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .jobs import JobRecord
    from .model import Counts, Failure, State
    from .tables import ReportRow


def processed(row: ReportRow) -> storage_pb2.ProcessedMiniBatch:
    """One row of processed_mini-batches.csv."""
    failure = _failure(row)
    final = failure is None or _is_final(row)
    failed = row.failed if failure is None else row.items if final else 0
    return storage_pb2.ProcessedMiniBatch(
        mini_batch=row.index,
        tries=row.tries,
        node=row.node,
        process=row.process,
        started_us=row.started_us,
        total_items=row.items,
        succeeded_items=row.succeeded,
        failed_items=failed,
        elapsed_us=row.elapsed_us,
        run_us=row.run_us,
        status="Succeeded" if failure is None else "Failed" if final else "NotReached",
        error=" ".join(failure.message.split()) if failure else "",
    )


def failed_lines(row: ReportRow) -> Iterator[bytes]:
    """Lines of failed_items.jsonl for a mini-batch that failed whole: one a file, or one for a slice of a table."""
    failure = _failure(row)
    if failure is None or not _is_final(row):
        return
    kind = job_pb2.Failure.Kind.Name(failure.kind).removeprefix("KIND_")
    fields = decode_slice(row.payload)
    rest: dict[str, Any] = {
        "kind": kind,
        "error": failure.message,
        "traceback": failure.traceback,
        "tries": row.tries,
    }
    if fields.get("kind") == "files":
        for path in fields["files"]:
            yield failed_line(item=path, slice_fields=None, count=1, **rest)
    elif row.planned_failure is not None:
        yield failed_line(item=fields.get("file"), slice_fields=None, count=row.items, **rest)
    else:
        yield failed_line(item=None, slice_fields=fields, count=row.items, **rest)


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


def _failure(row: ReportRow) -> job_pb2.Failure | None:
    blob = row.planned_failure or row.failure
    return job_pb2.Failure.FromString(blob) if blob else None


def _is_final(row: ReportRow) -> bool:
    return row.planned_failure is not None or bool(row.final)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
