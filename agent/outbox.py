"""What is to be told to the scheduler: gathered while the last response is on its way, and joined into the next."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, cast

from batchmesh.v1 import agent_pb2, job_pb2

if TYPE_CHECKING:
    from .frames import Failure
    from .pool import PoolState
    from .runner import Result

Response = agent_pb2.RunMiniBatchesResponse
#: Outcomes in one response (about 60 bytes each), and bytes of failures, so that it stays below the limit of a message.
_OUTCOMES = 20_000
_FAILURE_BYTES = 2 * 2**20


class _Row(NamedTuple):
    attempt_id: int
    offset: int
    length: int
    rows: int
    succeeded: int
    failed: int
    process: int
    started_us: int
    run_us: int
    elapsed_us: int


class Outbox:
    """Outcomes in the order in which they were known, and the latest pool status."""

    def __init__(self) -> None:
        self._durable: deque[tuple[str, list[_Row]]] = deque()
        self._failed: deque[tuple[_Row, Failure]] = deque()
        self._state: PoolState | None = None

    def __bool__(self) -> bool:
        return bool(self._durable or self._failed or self._state)

    def add_durable(self, segment: str, offset: int, results: list[Result]) -> None:
        """Results whose frames lie end to end in `segment` from `offset` on."""
        rows = []
        for each in results:
            rows.append(
                _Row(
                    each.attempt.attempt_id,
                    offset,
                    each.length,
                    each.rows,
                    each.succeeded,
                    each.failed,
                    each.process,
                    each.started_us,
                    each.run_us,
                    each.elapsed_us,
                )
            )
            offset += each.length
        if self._durable and self._durable[-1][0] == segment and len(self._durable[-1][1]) + len(rows) <= _OUTCOMES:
            self._durable[-1][1].extend(rows)
        else:
            self._durable.append((segment, rows))

    def add_failed(
        self, attempt_id: int, failure: Failure, process: int = 0, times: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        """`times`: unix microseconds at which run() began, microseconds in run(), microseconds in all."""
        self._failed.append((_Row(attempt_id, 0, 0, 0, 0, 0, process, *times), failure))

    def set_state(self, state: PoolState) -> None:
        self._state = state

    def drop_outcomes(self) -> None:
        """Nobody waits for them any more."""
        self._durable.clear()
        self._failed.clear()

    def take(self) -> agent_pb2.RunMiniBatchesResponse:
        """The next response, as full as it may be."""
        response = agent_pb2.RunMiniBatchesResponse()
        if self._state is not None:
            response.pool.CopyFrom(_pool_status(self._state))
            self._state = None
        segment, rows = self._durable.popleft() if self._durable else ("", [])
        rows = rows + self._take_failed(response.outcomes) if self._failed else rows
        if rows:
            _fill(response.outcomes, segment, rows)
        return response

    def _take_failed(self, outcomes: agent_pb2.Outcomes) -> list[_Row]:
        rows, size = [], 0
        while self._failed and size < _FAILURE_BYTES:
            row, failure = self._failed.popleft()
            told = outcomes.failures.add(attempt_id=row.attempt_id, failure=_failure(failure))
            size += told.ByteSize()
            rows.append(row)
        return rows


def _failure(failure: Failure) -> job_pb2.Failure:
    kind = cast("job_pb2.Failure.Kind.ValueType", failure.kind)
    return job_pb2.Failure(kind=kind, message=_utf8(failure.message), traceback=_utf8(failure.traceback))


def _utf8(text: str) -> str:
    """What a message can carry: the user's words may name a file whose name is no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _pool_status(state: PoolState) -> agent_pb2.PoolStatus:
    phase = cast("agent_pb2.PoolStatus.Phase.ValueType", int(state.phase))
    failure = _failure(state.failure) if state.failure else None
    return agent_pb2.PoolStatus(phase=phase, workers=state.workers, failure=failure)


def _fill(outcomes: agent_pb2.Outcomes, segment: str, rows: list[_Row]) -> None:
    columns = list(zip(*rows, strict=True))
    outcomes.segment = segment
    outcomes.attempt_id.extend(columns[0])
    outcomes.offset.extend(columns[1])
    outcomes.length.extend(columns[2])
    outcomes.rows.extend(columns[3])
    outcomes.succeeded_items.extend(columns[4])
    outcomes.failed_items.extend(columns[5])
    outcomes.process.extend(columns[6])
    outcomes.started_us.extend(columns[7])
    outcomes.run_us.extend(columns[8])
    outcomes.elapsed_us.extend(columns[9])
