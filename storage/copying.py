"""A copy: what another job has published, hidden in the folder of this one's output, with a report that says so.

published file or files ──▶ .batchmesh-<job>-output, or .batchmesh-<job>-files/
reused_from ──────────────▶ .batchmesh-<job>-report/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .assembly import Prepared
from .manifest import FileIdentity
from .report import write_report

if TYPE_CHECKING:
    from .assembly import Order
    from .published import Published


def copied(order: Order, published: Published) -> Prepared:
    """Copies; raises NoOutput when it has changed, DatastoreFailed, OSError."""
    taken = published.manifest
    output = _copy_file(order, published) if order.file_name else FileIdentity(0, 0)
    if not order.file_name:
        published.copy_tree(order.hidden("files"))
    report = order.hidden("report")
    report.mkdir()
    about = {"output_rows": taken.rows, "output_bytes": taken.bytes, "reused_from": taken.job_id}
    write_report(report, {**order.summary, **about}, None)
    return Prepared(taken.rows, taken.bytes, output)


def _copy_file(order: Order, published: Published) -> FileIdentity:
    """By way of the hidden folder: what a download that was killed has left there goes with it."""
    files = order.hidden("files")
    files.mkdir()
    published.copy_file(files / order.file_name)
    (files / order.file_name).replace(order.hidden("output"))
    files.rmdir()
    return FileIdentity.of(order.hidden("output").stat())
