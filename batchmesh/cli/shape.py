"""How jobs and nodes look: as JSON for machines, as words for people."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchmesh.job import Job, Node


def job_json(job: Job, *, spec: bool = True) -> str:
    """One line. Times are ISO 8601 in UTC, counts as in `Progress`; `spec` may be left out where it only repeats."""
    plain = dataclasses.asdict(job)
    if not spec:
        del plain["spec"]
    return json.dumps(plain, default=_plain)


def node_json(node: Node) -> str:
    """One line."""
    return json.dumps(dataclasses.asdict(node), default=_plain)


def counts(job: Job) -> str:
    """ "12/180 mini-batches, 60 items, 2 failed"; "of at least" while the input is still listed."""
    progress = job.progress
    planned = f"{progress.planned_mini_batches:,}" if progress.planning_ended else f"{progress.planned_mini_batches:,}+"
    words = [f"{progress.ended_mini_batches:,}/{planned} mini-batches", f"{progress.ended_items:,} items"]
    if progress.failed_items:
        words.append(f"{progress.failed_items:,} failed")
    return ", ".join(words)


def seconds(job: Job) -> float:
    """How long the job has run, or ran; 0 when it has not begun."""
    if job.started is None:
        return 0.0
    return ((job.ended or datetime.now(UTC)) - job.started).total_seconds()


def ago(moment: datetime | None) -> str:
    """ "12 s", "3 min", "5 h" or "2 d" since then."""
    if moment is None:
        return ""
    passed = (datetime.now(UTC) - moment).total_seconds()
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if passed < limit:
            return f"{max(passed, 0) / length:.0f} {unit}"
    return f"{passed / 86_400:.0f} d"


def span(length: float) -> str:
    """Seconds as "0:07" or "1:02:03"."""
    minutes, rest = divmod(round(length), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON")
