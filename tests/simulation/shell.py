"""The scheduler's shell as a model: performs the Machine's commands as scheduler/dispatcher.py does, in virtual time.

One object is one life of the scheduler; a restart is another one over the same database.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from batchmesh.scheduler.clock import AwakeClock
from batchmesh.scheduler.events import (
    Abort,
    AttemptEnd,
    AttemptsEnded,
    AttemptsHeld,
    ClosePool,
    Commit,
    CreditsGranted,
    Discard,
    Dispatch,
    FramesDamaged,
    HeldAttempt,
    JobCancelled,
    JobSubmitted,
    MiniBatchesPlanned,
    NodeDraining,
    NodeJoined,
    NodeLost,
    OpenPool,
    OutputCommitted,
    PlanGrew,
    PoolChanged,
    RecordLoss,
    Seal,
    Settle,
    StreamEnded,
    TellState,
    Ticked,
)
from batchmesh.scheduler.isolation import Isolation
from batchmesh.scheduler.model import FINAL, Failure, FailureKind, MiniBatch, PoolPhase, State
from batchmesh.scheduler.outcomes import failed_outcome

from .clock import Process
from .database import Row, counted, counted_of, opened
from .messages import Outcome, Request, Sent, Status
from .wire import End, Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchmesh.scheduler.events import Command, Event
    from batchmesh.scheduler.model import JobState

    from .database import JobTable, Statement
    from .messages import Beat, Response
    from .world import World

#: Seconds between two looks at leases and time limits.
TICK = 0.25
#: Seconds that a node's lease lasts, and an agent's patience with a silent scheduler.
LEASE = 5.0
#: Mini-batches read from the plan at once.
_FEED = 4
#: Seconds for which agents may still end their streams before an output is committed.
_STREAM_END = 3.0


@dataclass(eq=False, slots=True)
class Stream:
    """The scheduler's end of a wire. What comes on it is taken one by one."""

    node_id: str
    wire: Wire | None = None
    inbox: deque[Response | End] = field(default_factory=deque)
    busy: bool = False
    #: It was told to finish or to abort; with `dead` nothing of it is heard any more.
    closing: bool = False
    dead: bool = False
    ended: bool = False
    responses: int = 0
    durable: int = 0
    acknowledged: int = 0
    acknowledging: bool = False

    def send(self, request: Request) -> None:
        if self.wire is not None:
            self.wire.request(request)


@dataclass(eq=False, slots=True)
class Active:
    """A job in this life of the scheduler."""

    table: JobTable
    streams: dict[str, Stream] = field(default_factory=dict)
    #: Told to end, and not yet ended.
    closing: list[Stream] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    planned: int = 0
    fed: int = 0
    feeding: bool = False
    planning: bool = True
    #: Opened by what a node held: not to be fed.
    opened: set[int] = field(default_factory=set)

    @property
    def job_id(self) -> str:
        return self.table.workload.job_id


@dataclass(slots=True)
class Node:
    seen: float
    draining: bool = False


class Shell(Process):
    """One life of the scheduler, the number `epoch`."""

    def __init__(self, world: World, epoch: int) -> None:
        super().__init__(world.clock)
        self.machine = world.new_machine(epoch)
        self.epoch = epoch
        #: Another scheduler has begun since.
        self.usurped = False
        self.active: dict[str, Active] = {}
        self.nodes: dict[str, Node] = {}
        self._world = world
        self._random = world.random
        self._database = world.database
        self._protections = world.protections
        #: Mini-batches kept open at most.
        self._window = world.random.choice((5, 10, 20))
        self._time = AwakeClock(LEASE / 3)
        self._awake_since = self._last_judged = self.clock.now
        self.later(TICK, self._tick)

    # ---- events in ----

    def tell(self, event: Event) -> None:
        if not self.alive:
            return
        commands = self._world.handle(self, event, self._time.at(self.clock.now))
        for command in commands:
            self._perform(command)
        job = self.active.get(getattr(event, "job_id", ""))
        if job is None:
            return
        if isinstance(event, PlanGrew):
            job.planned += event.mini_batches
        if isinstance(event, AttemptsEnded | JobSubmitted):
            self._feed(job)

    def start(self, table: JobTable) -> None:
        """Sets a job of the database in motion."""
        job = self.active[table.workload.job_id] = Active(table, planned=table.planned)
        expected = frozenset(table.serving) if self._protections.expected_nodes else frozenset()
        event = JobSubmitted(job.job_id, table.workload.limits, counted(table), expected, patience=LEASE)
        self.tell(event)
        if table.cancelled:
            self.tell(JobCancelled(job.job_id))
        if not table.planning_ended:
            self.later(self._random.random() * 0.1, partial(self._plan, job, table.planned))

    def _tick(self) -> None:
        self._judge_leases()
        self.tell(Ticked())
        self.later(TICK, self._tick)

    def _write(self, statements: Sequence[Statement], done: Statement) -> None:
        """Calls `done` once they are durable; never, when another scheduler has the database by then."""
        if not (statements and self.usurped):
            self._database.write(statements, partial(self.do, done))

    # ---- nodes, as in nodes.py ----

    def on_beat(self, beat: Beat) -> None:
        if beat.replaces:
            self._lose(beat.replaces)
        if beat.leaving:
            self._leave(beat.node_id)
            return
        node = self.nodes.get(beat.node_id)
        if node is None:
            node = self.nodes[beat.node_id] = Node(self.clock.now)
            self.tell(NodeJoined(beat.node_id))
        node.seen = self.clock.now
        if beat.draining and not node.draining:
            node.draining = True
            self.tell(NodeDraining(beat.node_id))

    def _leave(self, node_id: str) -> None:
        """What it told before it left counts before it is lost."""
        self._write([], lambda: self._lose(node_id, left=True))

    def _judge_leases(self) -> None:
        now = self.clock.now
        if now - self._last_judged > LEASE / 3 and self._protections.awake_before_judging:
            self._awake_since = now
        self._last_judged = now
        if now - self._awake_since < LEASE or not self._protections.leases:
            return
        for node_id in [node_id for node_id, node in self.nodes.items() if now - node.seen > LEASE]:
            self._world.given_up(self, node_id)
            self._lose(node_id)

    def _lose(self, node_id: str, left: bool = False) -> None:
        """A node is lost once all that has come from it is counted."""
        known = self.nodes.pop(node_id, None) is not None
        expected = any(node_id in job.table.serving for job in self.active.values())
        if not (known or expected):
            return
        for job in self.active.values():
            stream = job.streams.get(node_id)
            if stream is not None and self._protections.closed_streams:
                stream.dead = True
        tell = partial(self._lost, node_id, left)
        if self._protections.told_before_lost:
            self._write([], tell)
        else:
            tell()

    def _lost(self, node_id: str, left: bool) -> None:
        self.tell(NodeLost(node_id, left))
        if node_id in self.nodes:  # it is back already
            self.tell(NodeJoined(node_id))
        for job in self.active.values():
            self._write([partial(job.table.serving.discard, node_id)], _nothing)

    # ---- commands out ----

    def _perform(self, command: Command) -> None:
        job = self.active.get(command.job_id)
        if job is None:
            return
        match command:
            case Settle():
                job.open.difference_update(command.indexes)
            case Seal():
                if self._protections.seals:
                    self._write([partial(self._database.seal, job.job_id, command.indexes)], _nothing)
            case RecordLoss():
                self._record_loss(job, command)
            case TellState():
                self._tell_state(job, command.state)
            case Commit() | Discard():
                self._end(job, discard=isinstance(command, Discard))
            case _:
                self._perform_on_node(job, command)

    def _perform_on_node(self, job: Active, command: Command) -> None:
        match command:
            case Dispatch():
                self._dispatch(job, command)
            case Abort():
                self._abort(job, command)
            case OpenPool():
                self._open(job, command.node_id)
            case ClosePool():
                self._close(job, command)
            case _:
                pass

    def _dispatch(self, job: Active, command: Dispatch) -> None:
        running = self.machine.jobs[job.job_id].running
        twins = {(out.mini_batch.index, out.mini_batch.part): attempt for attempt, out in reversed(running.items())}
        sent = [
            Sent(
                attempt,
                each.index,
                each.first,
                each.items,
                each.part,
                first_try=not each.tries and not each.level and twins.get((each.index, each.part)) == attempt,
            )
            for attempt, each in command.attempts
        ]
        stream = job.streams.get(command.node_id)
        if stream is None or stream.closing:
            self._world.violated(f"a dispatch to {command.node_id}, to which no stream leads")
        stream.send(Request(dispatch=tuple(sent)))

    def _abort(self, job: Active, command: Abort) -> None:
        stream = job.streams.get(command.node_id)
        if stream is not None:
            stream.send(Request(abort=tuple(command.attempts)))

    def _open(self, job: Active, node_id: str) -> None:
        """The row that says so is durable before the stream is opened."""
        old = job.streams.get(node_id)
        if node_id not in self.nodes or (old is not None and not old.closing):
            self.later(0.0, partial(self.tell, StreamEnded(job.job_id, node_id, broken=node_id in self.nodes)))
            return
        if old is not None:
            old.dead = True
            job.closing.append(old)
        stream = job.streams[node_id] = Stream(node_id)
        if self.usurped:  # the worst it can do
            self._connect(job, stream)
        else:
            self._write([partial(job.table.serving.add, node_id)], partial(self._connect, job, stream))

    def _connect(self, job: Active, stream: Stream) -> None:
        if stream.dead:
            self._ended(job, stream, broken=False)
            return
        stream.wire = self._world.connect(self, job.job_id, stream.node_id)
        stream.wire.open(self.epoch, LEASE)
        if stream.closing:
            stream.send(Request(finish=True))

    def _close(self, job: Active, command: ClosePool) -> None:
        stream = job.streams.get(command.node_id)
        if stream is None:
            return
        stream.closing = True
        if command.abort:
            stream.dead = self._protections.closed_streams
            job.closing.append(job.streams.pop(command.node_id))
        stream.send(Request(abort_all=command.abort, finish=not command.abort))

    # ---- what nodes say ----

    def on_response(self, wire: Wire, response: Response) -> None:
        self._heard(wire, response)

    def on_end(self, wire: Wire, how: End) -> None:
        self._heard(wire, how)

    def _heard(self, wire: Wire, said: Response | End) -> None:
        for job in self.active.values():
            for stream in [*job.streams.values(), *job.closing]:
                if stream.wire is wire:
                    stream.inbox.append(said)
                    self._take_all(job, stream)
                    return

    def _take_all(self, job: Active, stream: Stream) -> None:
        while stream.inbox and not stream.busy:
            said = stream.inbox.popleft()
            if isinstance(said, End):
                broken = said is End.BROKEN or (said is End.RETURNED and not stream.closing)
                self._write([], partial(self._ended, job, stream, broken))
            elif not stream.dead:
                self._take(job, stream, said)

    def _ended(self, job: Active, stream: Stream, broken: bool) -> None:
        """After all that it brought is counted."""
        stream.ended = True
        if stream in job.closing:
            job.closing.remove(stream)
        if job.streams.get(stream.node_id) is stream:
            del job.streams[stream.node_id]
            self.tell(StreamEnded(job.job_id, stream.node_id, broken))

    def _take(self, job: Active, stream: Stream, response: Response) -> None:
        node_id = stream.node_id
        if response.held is not None:
            stream.busy = True
            ask = partial(self._look_up, job, stream, response.held)
            self._database.read(ask, self.later)
            return
        if response.status is not None:
            self._on_status(job, stream, response.status)
        if response.credits:
            self.tell(CreditsGranted(job.job_id, node_id, response.credits))
        if response.outcomes:
            self._on_outcomes(job, stream, response.outcomes)

    def _on_status(self, job: Active, stream: Stream, status: Status) -> None:
        """What came before a pool failed is counted before it."""
        failed = status.phase is PoolPhase.FAILED
        failure = Failure(FailureKind.INIT_FAILED, "init() failed") if failed else None
        event = PoolChanged(job.job_id, stream.node_id, status.phase, status.workers, failure, status.held_up)
        if failed and self._protections.told_before_lost:
            self._write([], lambda: None if stream.dead else self.tell(event))
        else:
            self.tell(event)

    def _look_up(self, job: Active, stream: Stream, held: tuple[tuple[int, int, int], ...]) -> None:
        """Opens what is held and not settled, unless the plan has come to it by itself."""
        found: list[MiniBatch | Isolation] = []
        for index in sorted({index for _, index, _ in held}):
            new = index >= job.fed and index not in job.opened
            what = opened(job.table, index) if new else None
            if what is not None:
                found.append(what)
        mini_batches, isolations = self._noted(job, found)
        job.opened.update({each.index for each in found} if self._protections.opened_once else ())
        if not stream.dead:
            attempts = [HeldAttempt(*each) for each in held]
            self.tell(AttemptsHeld(job.job_id, stream.node_id, attempts, mini_batches, isolations))
        elif found:  # they are open all the same
            self.tell(MiniBatchesPlanned(job.job_id, mini_batches, isolations))
        stream.busy = False
        self._take_all(job, stream)

    def _noted(self, job: Active, found: Sequence[MiniBatch | Isolation]) -> tuple[list[MiniBatch], list[Isolation]]:
        job.open.update([each.index for each in found])
        mini_batches = [each for each in found if isinstance(each, MiniBatch)]
        if not self._protections.recorded_once:
            for each in mini_batches:
                each.ended = 0
        return mini_batches, [each for each in found if isinstance(each, Isolation)]

    def _on_outcomes(self, job: Active, stream: Stream, outcomes: tuple[Outcome, ...]) -> None:
        """Durable, then told, then acknowledged."""
        stream.responses += 1
        state = self.machine.jobs.get(job.job_id)
        running = state.running if state is not None else {}
        rows: list[Row] = []
        ends: list[AttemptEnd] = []
        for outcome in outcomes:
            if outcome.attempt not in running or state is None:
                ends += [] if self._protections.only_wanted_outcomes else [_end_of(outcome)]
                continue
            ends.append(_end_of(outcome))
            if outcome.failure is not FailureKind.NOT_STARTED:
                rows.append(self._row(state, outcome.attempt, outcome))
        event = AttemptsEnded(job.job_id, ends)
        if not self._protections.acknowledged_when_durable:
            self._made_durable(stream, stream.responses)
        self._write_outcomes(job, rows, event, partial(self._made_durable, stream, stream.responses))

    def _row(self, state: JobState, attempt: int, outcome: Outcome) -> Row:
        part = state.running[attempt].mini_batch
        if outcome.failure is not None:
            row = failed_outcome(0, state, attempt, "", Failure(outcome.failure, ""))
            return Row(
                row.idx, row.first, row.items, row.level, row.runs, row.tries, attempt, outcome.failure, row.final
            )
        counts = (outcome.succeeded, outcome.failed, outcome.rows)
        runs = state.isolations[part.index].runs if part.level else 0
        return Row(part.index, part.first, part.items, part.level, runs, part.tries + 1, attempt, None, True, *counts)

    def _write_outcomes(self, job: Active, rows: list[Row], event: AttemptsEnded, done: Statement) -> None:
        def durable() -> None:
            if event.ends and self._protections.durable_before_told:
                self.tell(event)
            done()

        self._write([partial(self._database.put, job.job_id, row) for row in rows], durable)
        if event.ends and not self._protections.durable_before_told:
            self.tell(event)

    def _made_durable(self, stream: Stream, number: int) -> None:
        stream.durable = number
        if not stream.acknowledging and not self.usurped:
            stream.acknowledging = True
            self.later(self._random.random() * 0.05, partial(self._acknowledge, stream))

    def _acknowledge(self, stream: Stream) -> None:
        stream.acknowledging = False
        if stream.durable > stream.acknowledged:
            stream.acknowledged = stream.durable
            stream.send(Request(acknowledged=stream.durable))

    def _record_loss(self, job: Active, command: RecordLoss) -> None:
        state = self.machine.jobs[job.job_id]
        if command.attempt_id not in state.running:
            return
        outcome = Outcome(command.attempt_id, command.failure.kind)
        row = self._row(state, command.attempt_id, outcome)
        event = AttemptsEnded(job.job_id, [AttemptEnd(command.attempt_id, failure=command.failure)])
        self._write_outcomes(job, [row], event, _nothing)

    # ---- the plan, piece by piece ----

    def _plan(self, job: Active, begun: int) -> None:
        """The planner's thread: writes the next piece ahead, then tells it."""
        total = len(job.table.workload.mini_batches)
        if not job.planning or begun >= total:
            return
        upto = min(total, begun + self._random.randint(1, 12))
        write = partial(setattr, job.table, "planned", upto)
        self._write([write], partial(self._on_planned, job, begun, upto))
        self.later(self._random.random() * 0.2, partial(self._plan, job, upto))

    def _on_planned(self, job: Active, begun: int, upto: int) -> None:
        if self.active.get(job.job_id) is not job:
            return
        new = job.table.workload.mini_batches[begun:upto]
        bad = [each for each in new if each.unreadable]
        items = sum(len(each.items) for each in new)
        first = Failure(FailureKind.UNREADABLE_FILE, "a damaged file") if bad else None
        at = job.planned
        self.tell(PlanGrew(job.job_id, len(new), items, upto == len(job.table.workload.mini_batches), len(bad), first))
        if len(job.open) + len(new) <= self._window and job.fed == at and not job.feeding:
            job.fed = job.planned
            self._open_planned(job, [MiniBatch(each.index, len(each.items)) for each in new if not each.unreadable])
        self._feed(job)

    def _open_planned(self, job: Active, found: Sequence[MiniBatch | Isolation]) -> None:
        mini_batches, isolations = self._noted(job, [each for each in found if each.index not in job.opened])
        self.tell(MiniBatchesPlanned(job.job_id, mini_batches, isolations))

    def _feed(self, job: Active) -> None:
        """Reads the next piece of the plan when the window has room for it."""
        if job.feeding or job.fed >= job.planned or len(job.open) > self._window - _FEED:
            return
        job.feeding = True
        self._database.read(partial(self._feed_once, job, job.planned), self.later)

    def _feed_once(self, job: Active, planned: int) -> None:
        found: list[MiniBatch | Isolation] = []
        index = job.fed
        while index < planned and len(found) < _FEED:
            what = opened(job.table, index)
            index += 1
            if what is not None:
                found.append(what)
        job.fed = index
        # What was read lies on its way from the reading thread for a while.
        self.later(self._random.random() * self._database.slowness, partial(self._fed, job, found))

    def _fed(self, job: Active, found: list[MiniBatch | Isolation]) -> None:
        job.feeding = False
        if self.active.get(job.job_id) is job:
            self._open_planned(job, found)
            self._feed(job)

    # ---- states and outputs ----

    def _tell_state(self, job: Active, state: State) -> None:
        if state in FINAL:
            self._write([partial(setattr, job.table, "state", state)], partial(self._forget, job))
        else:
            cancelled = self.machine.jobs[job.job_id].cancelled
            self._write([partial(self._set_state, job.table, state, cancelled)], _nothing)

    @staticmethod
    def _set_state(table: JobTable, state: State, cancelled: bool) -> None:
        table.state, table.cancelled = state, cancelled

    def _forget(self, job: Active) -> None:
        self.machine.forget(job.job_id)
        self.active.pop(job.job_id, None)

    def _end(self, job: Active, discard: bool, deadline: float = -1.0) -> None:
        """As committer.py: planning stops, streams end, writes are durable, counts come from the rows."""
        deadline = self.clock.now + _STREAM_END if deadline < 0 else deadline
        job.planning = False
        if (job.streams or job.closing) and self.clock.now < deadline:
            self.later(0.05, partial(self._end, job, discard, deadline))
        else:
            self._write([], partial(self._commit, job, discard))

    def _commit(self, job: Active, discard: bool) -> None:
        if self.usurped:
            return
        state = self.machine.jobs[job.job_id]
        self._world.counted(job.table, state.counts, counted(job.table))
        state.counts = counted(job.table)
        self.later(self._random.random() * 0.2, partial(self._publish, job, discard))

    def _publish(self, job: Active, discard: bool) -> None:
        if self.clock.now < self._world.storage.away_until:
            self.later(0.2, partial(self._commit, job, discard))
            return
        if self.usurped:
            return
        damaged = set() if discard else self._world.storage.commit(job.job_id, job.table.all_rows())
        if damaged:
            self._reopen(job, sorted(damaged))
        else:
            self.tell(OutputCommitted(job.job_id))

    def _reopen(self, job: Active, indexes: list[int]) -> None:
        """Frames that are damaged: what they held runs again."""
        lost = counted_of(job.table, indexes)
        again = [MiniBatch(index, len(job.table.workload.mini_batches[index].items)) for index in indexes]

        def reopened() -> None:
            job.open.update(indexes)
            self.tell(FramesDamaged(job.job_id, again, lost))

        self._write([partial(self._world.reopen, job.table, indexes)], reopened)


def _end_of(outcome: Outcome) -> AttemptEnd:
    failure = Failure(outcome.failure, "it failed") if outcome.failure is not None else None
    return AttemptEnd(outcome.attempt, outcome.succeeded, outcome.failed, outcome.rows, failure, outcome.elapsed)


def _nothing() -> None:
    """Nothing is to be done once it is durable."""
