"""What a node tells of its attempts, as rows for the database and as ends for the Machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import AttemptEnd
from .jobs import failure_of
from .model import NO_TRY

if TYPE_CHECKING:
    from batchmesh.v1 import agent_pb2

    from .jobs import JobRecord
    from .tables import OutcomeRow


def read_outcomes(
    record: JobRecord, node_id: str, outcomes: agent_pb2.Outcomes
) -> tuple[list[OutcomeRow], list[AttemptEnd]]:
    """Rows for the database and ends for the Machine, of those attempts that are still wanted."""
    state = record.state
    running = state.running if state is not None else {}
    failures = {each.attempt_id: each.failure for each in outcomes.failures}
    number, segment = record.row.number, outcomes.segment
    limit = record.spec.run_max_try
    rows: list[OutcomeRow] = []
    ends: list[AttemptEnd] = []
    columns = zip(
        outcomes.attempt_id,
        outcomes.offset,
        outcomes.length,
        outcomes.rows,
        outcomes.succeeded_items,
        outcomes.failed_items,
        outcomes.process,
        outcomes.started_us,
        outcomes.run_us,
        outcomes.elapsed_us,
        strict=True,
    )
    for attempt, offset, length, count, succeeded, failed, process, started, run, elapsed in columns:
        out = running.get(attempt)
        if out is None:
            continue
        mini_batch = out.mini_batch
        tries = mini_batch.tries + 1
        proto = failures.get(attempt)
        if proto is None:
            where = (segment, offset, length, count, succeeded, failed)
            ends.append(AttemptEnd(attempt, succeeded, failed, count))
        else:
            failure = failure_of(proto)
            ends.append(AttemptEnd(attempt, failure=failure))
            if failure.kind in NO_TRY:
                continue
            where = ("", 0, 0, 0, 0, mini_batch.items)
        blob = proto.SerializeToString() if proto is not None else None
        times = (started, run, elapsed)
        final = proto is None or tries >= limit
        rows.append((number, mini_batch.index, tries, attempt, *where, node_id, process, *times, blob, final))
    return rows, ends
