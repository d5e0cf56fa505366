"""What became of attempts, as rows for the database and as ends for the Machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import AttemptEnd
from .isolation import splits
from .jobs import failure_of, failure_proto
from .model import FailureKind
from .tables import OutcomeRow

if TYPE_CHECKING:
    from batchmesh.v1 import agent_pb2

    from .jobs import JobRecord
    from .model import Failure, JobState, MiniBatch

_row = OutcomeRow._make


def read_outcomes(
    record: JobRecord, node_id: str, outcomes: agent_pb2.Outcomes
) -> tuple[list[OutcomeRow], list[AttemptEnd]]:
    """What a node tells: rows for the database and ends for the Machine, of those attempts that are still out there."""
    state = record.state
    if state is None:
        return [], []
    failures = {each.attempt_id: each.failure for each in outcomes.failures}
    number, segment, running = record.row.number, outcomes.segment, state.running
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
        if out is None or out.node_id != node_id:
            continue
        times = (process, started, run, elapsed)
        if attempt not in failures:
            ends.append(AttemptEnd(attempt, succeeded, failed, count, None, elapsed / 1e6))
            each = out.mini_batch
            which = _which(state, each) if each.level else (each.index, 0, each.items, 0, 0, each.tries + 1)
            place = (segment, offset, length, count, succeeded, failed, node_id)
            rows.append(_row((number, *which, attempt, *place, *times, None, True)))
            continue
        failure = failure_of(failures[attempt])
        ends.append(AttemptEnd(attempt, failure=failure, elapsed=elapsed / 1e6))
        if failure.kind is not FailureKind.NOT_STARTED:
            rows.append(failed_outcome(number, state, attempt, node_id, failure, times))
    return rows, ends


def failed_outcome(
    number: int,
    state: JobState,
    attempt: int,
    node_id: str,
    failure: Failure,
    times: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> OutcomeRow:
    """The row of an attempt that is out and failed. `times`: its process; when it began, its run() and all of it, in
    microseconds."""
    which = _which(state, state.running[attempt].mini_batch)
    items = which[2]
    blob = failure_proto(failure).SerializeToString()
    place, final = ("", 0, 0, 0, 0, items, node_id), _is_final(state, attempt, failure)
    return _row((number, *which, attempt, *place, *times, blob, final))


def _which(state: JobState, each: MiniBatch) -> tuple[int, int, int, int, int, int]:
    """Index, first item, items, level, extra runs and tries of what an attempt is at."""
    runs = state.isolations[each.index].runs if each.level else 0
    return each.index, each.first, each.items, each.level, runs, each.tries + 1


def _is_final(state: JobState, attempt: int, failure: Failure) -> bool:
    """Whether nothing more comes of a mini-batch now that this attempt failed; of parts that is told at their end.

    Another attempt that is still at it may succeed, and its row then takes the place of this one.
    """
    mini_batch = state.running[attempt].mini_batch
    if mini_batch.level or mini_batch.tries + 1 < state.limits.run_max_try:
        return False
    return not splits(state.limits, mini_batch, failure)
