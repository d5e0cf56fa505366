"""What became of attempts, as rows for the database and as ends for the Machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .events import AttemptEnd
from .isolation import splits
from .jobs import failure_of, failure_proto
from .model import FailureKind
from .tables import OutcomeRow, add_outcomes, add_successes

if TYPE_CHECKING:
    from batchmesh.v1 import agent_pb2

    from .jobs import JobRecord
    from .model import Failure, JobState, MiniBatch
    from .store import Statement
    from .tables import Success

_row = OutcomeRow._make
_end = AttemptEnd._make


class Told(NamedTuple):
    """What a node tells, of those attempts that are still out there: rows for the database, ends for the Machine."""

    successes: list[Success]
    others: list[OutcomeRow]
    ends: list[AttemptEnd]

    def statements(self) -> list[Statement]:
        """What makes them durable."""
        return [*add_successes(self.successes), *(add_outcomes(self.others) if self.others else ())]


def read_outcomes(record: JobRecord, node_id: str, outcomes: agent_pb2.Outcomes) -> Told:
    """One message of a node."""
    state = record.state
    told = Told([], [], [])
    if state is None:
        return told
    failures = {each.attempt_id: each.failure for each in outcomes.failures}
    number, segment, running = record.row.number, outcomes.segment, state.running
    successes, others, ends = told
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
        each = out.mini_batch
        if attempt not in failures:
            ends.append(_end((attempt, succeeded, failed, count, None, elapsed / 1e6)))
            place = (segment, offset, length, count, succeeded, failed)
            if each.level:
                ran = (node_id, process, started, run, elapsed)
                others.append(_row((number, *_which(state, each), attempt, *place, *ran, None, True)))
            else:
                which = (number, each.index, each.items, each.tries + 1, attempt)
                successes.append((*which, *place, node_id, process, started, run, elapsed))
            continue
        failure = failure_of(failures[attempt])
        ends.append(AttemptEnd(attempt, failure=failure, elapsed=elapsed / 1e6))
        if failure.kind is not FailureKind.NOT_STARTED:
            times = (process, started, run, elapsed)
            others.append(failed_outcome(number, state, attempt, node_id, failure, times))
    return told


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
