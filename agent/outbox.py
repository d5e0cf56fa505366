"""What is to be told to the scheduler: gathered while the last response is on its way, and joined into the next.

    add ──▶ untold ──take()──▶ unacknowledged ──acknowledge()──▶ gone
              ▲                      │
              └──── tell_again() ────┘  on another stream

It has no bound of its own: what lies here is open at the scheduler, which keeps a bounded number of mini-batches of a
job open and counts each until its outcome is durable, so that it sends no more behind those.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, cast

from batchmesh.v1 import agent_pb2, job_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .frames import Failure
    from .pool import PoolState
    from .runner import Result
    from .waiting import Attempt, Held

Response = agent_pb2.RunMiniBatchesResponse
#: Outcomes in one response (about 60 bytes each), and bytes of failures, so that it stays below the limit of a message.
_OUTCOMES = 20_000
_FAILURE_BYTES = 2 * 2**20


class _Row(NamedTuple):
    """The columns of Outcomes, in their order, and what else Held says of an attempt."""

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
    mini_batch: int
    part: int


class _Told(NamedTuple):
    """The outcomes of one response, kept until they are acknowledged."""

    segment: str
    durable: list[_Row]
    failed: list[tuple[_Row, Failure]]

    @property
    def rows(self) -> list[_Row]:
        return self.durable + [row for row, _ in self.failed] if self.failed else self.durable


class Outbox:
    """Outcomes in the order in which they were known, and the latest pool status."""

    def __init__(self) -> None:
        self._durable: deque[tuple[str, list[_Row]]] = deque()
        self._failed: deque[tuple[_Row, Failure]] = deque()
        self._state: tuple[PoolState, str] | None = None
        self._told: deque[_Told] = deque()
        #: Responses that were acknowledged on this stream.
        self._acknowledged = 0

    def __bool__(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._durable or self._failed or self._state)

    @property
    def settled(self) -> bool:
        """Every outcome was told and acknowledged."""
        return not (self._durable or self._failed or self._told)

    def add_durable(self, segment: str, offset: int, results: list[Result]) -> None:
        """Results whose frames lie end to end in `segment` from `offset` on."""
        rows = []
        for each in results:
            attempt = each.attempt
            rows.append(
                _Row(
                    attempt.attempt_id,
                    offset,
                    each.length,
                    each.rows,
                    each.succeeded,
                    each.failed,
                    each.process,
                    each.started_us,
                    each.run_us,
                    each.elapsed_us,
                    attempt.mini_batch,
                    attempt.part,
                )
            )
            offset += each.length
        if self._durable and self._durable[-1][0] == segment and len(self._durable[-1][1]) + len(rows) <= _OUTCOMES:
            self._durable[-1][1].extend(rows)
        else:
            self._durable.append((segment, rows))

    def add_failed(
        self, attempt: Attempt, failure: Failure, process: int = 0, times: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        """`times`: unix microseconds at which run() began, microseconds in run(), microseconds in all."""
        row = _Row(attempt.attempt_id, 0, 0, 0, 0, 0, process, *times, attempt.mini_batch, attempt.part)
        self._failed.append((row, failure))

    def set_state(self, state: PoolState, held_up: str = "") -> None:
        """`held_up` is why storage takes no results; empty when it does."""
        self._state = (state, held_up)

    def drop_outcomes(self) -> None:
        """Nobody waits for them any more."""
        self._durable.clear()
        self._failed.clear()
        self._told.clear()

    def held(self) -> Iterator[Held]:
        """The attempts whose outcomes are not acknowledged."""
        for _, rows in self._durable:
            yield from map(_held, rows)
        for row, _ in self._failed:
            yield _held(row)
        for told in self._told:
            yield from map(_held, told.rows)

    def tell_again(self) -> None:
        """A stream begins: what was not acknowledged on the last one is told first."""
        self._acknowledged = 0
        while self._told:
            told = self._told.pop()
            if told.durable:
                self._durable.appendleft((told.segment, told.durable))
            self._failed.extendleft(reversed(told.failed))

    def acknowledge(self, count: int) -> None:
        """The first `count` responses with outcomes of this stream are durable with the scheduler."""
        while self._acknowledged < count and self._told:
            self._told.popleft()
            self._acknowledged += 1

    def take(self) -> Response:
        """The next response, as full as it may be."""
        response = Response()
        if self._state is not None:
            response.pool.CopyFrom(_pool_status(*self._state))
            self._state = None
        segment, durable = self._durable.popleft() if self._durable else ("", [])
        told = _Told(segment, durable, self._take_failed(response.outcomes) if self._failed else [])
        if rows := told.rows:
            self._told.append(told)
            _fill(response.outcomes, segment, rows)
        return response

    def _take_failed(self, outcomes: agent_pb2.Outcomes) -> list[tuple[_Row, Failure]]:
        taken, size = [], 0
        while self._failed and size < _FAILURE_BYTES:
            row, failure = self._failed.popleft()
            told = outcomes.failures.add(attempt_id=row.attempt_id, failure=_failure(failure))
            size += told.ByteSize()
            taken.append((row, failure))
        return taken


def held_response(attempts: Iterable[Held]) -> Response:
    """The first response of a stream."""
    columns = list(zip(*attempts, strict=True)) or [(), (), ()]
    return Response(held=agent_pb2.Held(attempt_id=columns[0], mini_batch=columns[1], part=columns[2]))


def _held(row: _Row) -> Held:
    return row.attempt_id, row.mini_batch, row.part


def _failure(failure: Failure) -> job_pb2.Failure:
    kind = cast("job_pb2.Failure.Kind.ValueType", failure.kind)
    return job_pb2.Failure(kind=kind, message=_utf8(failure.message), traceback=_utf8(failure.traceback))


def _utf8(text: str) -> str:
    """What a message can carry: the user's words may name a file whose name is no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _pool_status(state: PoolState, held_up: str) -> agent_pb2.PoolStatus:
    phase = cast("agent_pb2.PoolStatus.Phase.ValueType", int(state.phase))
    failure = _failure(state.failure) if state.failure else None
    return agent_pb2.PoolStatus(phase=phase, workers=state.workers, failure=failure, held_up=held_up)


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
