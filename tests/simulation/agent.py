"""A node as a model: workers, credits, attempts. A job outlives its stream for a lease, outcomes until acknowledged."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from batchmesh.agent.window import credits_to_return
from batchmesh.scheduler.model import FailureKind, PoolPhase

from .clock import Process
from .messages import Beat, Outcome, Response, Sent, Status
from .wire import End
from .workload import Item, run

if TYPE_CHECKING:
    from .messages import Request
    from .wire import Wire
    from .workload import Result
    from .world import World

#: Seconds between two heartbeats.
BEAT = 1.0
#: Seconds after which a response leaves, with all that came up meanwhile.
_JOIN = 0.004

#: Mini-batch, first item, items: what an attempt is of.
Unit = tuple[int, int, int]
_Told = tuple[Sent, Outcome]


@dataclass(eq=False, slots=True)
class Service:
    """One job on this node, whether a stream leads to it or not."""

    job_id: str
    #: Mini-batches that the whole window holds.
    target: int
    lease: float
    wire: Wire | None = None
    #: Counts the streams and their ends, so that a timer knows whether it still means something.
    turn: int = 0
    waiting: deque[Sent] = field(default_factory=deque)
    running: dict[int, Sent] = field(default_factory=dict)
    #: Ran, and on their way to storage.
    leaving: dict[int, Sent] = field(default_factory=dict)
    untold: list[_Told] = field(default_factory=list)
    #: Number of a response of this stream, and its outcomes; oldest first.
    unacknowledged: deque[tuple[int, list[_Told]]] = field(default_factory=deque)
    responses: int = 0
    granted: int = 0
    phase: PoolPhase = PoolPhase.PREPARING
    held_up: str = ""
    say_status: bool = False
    finishing: bool = False
    flushing: bool = False
    #: Of what has come here and not failed: the attempt that has run it, runs it, or will.
    record: dict[Unit, int] = field(default_factory=dict)

    @property
    def open(self) -> int:
        return len(self.waiting) + len(self.running)

    @property
    def idle(self) -> bool:
        return not (self.open or self.leaving or self.untold or self.unacknowledged)

    def held(self) -> tuple[tuple[int, int, int], ...]:
        here = [*self.waiting, *self.running.values(), *self.leaving.values(), *[sent for sent, _ in self.untold]]
        return tuple((sent.attempt, sent.index, sent.part) for sent in here)


def unit_of(sent: Sent) -> Unit:
    return sent.index, sent.first, sent.items


class Agent(Process):
    """One life of an agent. `replaces` is the node id of the life before it in the same work folder."""

    def __init__(self, world: World, node_id: str, workers: int, replaces: str = "") -> None:
        super().__init__(world.clock)
        self.node_id = node_id
        self.workers = workers
        self.draining = False
        self.fails_pools = False
        self.services: dict[str, Service] = {}
        self._world = world
        self._random = world.random
        self._replaces = replaces
        self._window = world.random.randint(1, 3)
        self._epoch = 0
        self.later(world.random.random() * 0.2, self._beat)

    # ---- its life ----

    def _beat(self) -> None:
        leaving = self.draining and not self.services
        self._world.beat(Beat(self.node_id, self.draining, leaving, self._replaces))
        if leaving:
            self._world.left(self)
        else:
            self.later(BEAT, self._beat)

    def drain(self) -> None:
        """It ends what runs, gives back what waits, takes nothing new."""
        self.draining = True
        for service in list(self.services.values()):
            self._give_back_all(service)

    def die(self, learned_after: float) -> None:
        """Killed: nothing of it is left; its wires break, and the scheduler learns of it after so many seconds."""
        self.alive = False
        for service in self.services.values():
            if service.wire is not None:
                service.wire.cut(learned_after, 0.0)
        self.services.clear()

    # ---- streams ----

    def on_open(self, wire: Wire, epoch: int, lease: float) -> None:
        """The newest stream of a job takes the place of an older one, unless an earlier scheduler opened it."""
        service = self.services.get(wire.job_id)
        if (epoch < self._epoch and self._world.protections.fencing) or (self.draining and service is None):
            wire.end(End.REFUSED)
            return
        self._epoch = max(epoch, self._epoch)
        self._attach(service or self._take_up(wire.job_id, lease), wire)

    def _take_up(self, job_id: str, lease: float) -> Service:
        service = self.services[job_id] = Service(job_id, self.workers * (1 + self._window), lease)
        self.later(self._random.random() * 0.3, partial(self._warm, service))
        return service

    def _warm(self, service: Service) -> None:
        service.phase = PoolPhase.FAILED if self.fails_pools else PoolPhase.READY
        if self.fails_pools:
            self._give_back_all(service)
        self._say_status(service)
        self._pump(service)

    def hold_up(self, sentence: str) -> None:
        for service in self.services.values():
            service.held_up = sentence
            self._say_status(service)

    def _attach(self, service: Service, wire: Wire) -> None:
        if service.wire is not None:
            service.wire.end(End.RETURNED)
        service.wire = wire
        service.turn += 1
        service.finishing = False
        service.granted = service.responses = 0
        service.untold = [*[told for _, some in service.unacknowledged for told in some], *service.untold]
        service.unacknowledged.clear()
        wire.respond(Response(held=service.held()))
        self._say_status(service)

    def on_cut(self, wire: Wire) -> None:
        """The job goes on; after a lease without another stream it ends."""
        service = self.services.get(wire.job_id)
        if service is None or service.wire is not wire:
            return
        service.wire = None
        service.turn += 1
        self.later(service.lease, partial(self._forsaken, service, service.turn))

    def _forsaken(self, service: Service, turn: int) -> None:
        if service.turn == turn:
            self._forget(service)

    def _forget(self, service: Service) -> None:
        if self.services.get(service.job_id) is service:
            del self.services[service.job_id]
        service.turn += 1
        for some in (service.waiting, service.running, service.leaving, service.untold, service.unacknowledged):
            some.clear()

    # ---- what the scheduler asks ----

    def on_request(self, wire: Wire, request: Request) -> None:
        service = self.services.get(wire.job_id)
        if service is None or service.wire is not wire:
            return
        if request.abort_all:
            self._world.ended_by_order(service.job_id, service.record.values())
            wire.end(End.RETURNED)
            self._forget(service)
            return
        while service.unacknowledged and service.unacknowledged[0][0] <= request.acknowledged:
            service.unacknowledged.popleft()
        for attempt in request.abort:
            self._abort(service, attempt)
        self._take(service, request.dispatch)
        service.finishing = service.finishing or request.finish
        self._pump(service)
        self._end_if_done(service)

    def _take(self, service: Service, dispatch: tuple[Sent, ...]) -> None:
        service.granted = max(0, service.granted - len(dispatch))
        for sent in dispatch:
            service.waiting.append(sent)
            service.record[unit_of(sent)] = sent.attempt
        if service.open > service.target:
            self._world.violated(f"{self.node_id} was sent {service.open} mini-batches, its window is {service.target}")
        if self.draining or service.phase is PoolPhase.FAILED:
            self._give_back_all(service)

    def _abort(self, service: Service, attempt: int) -> None:
        waiting = [sent for sent in service.waiting if sent.attempt == attempt]
        sent = service.running.pop(attempt, None) or (waiting[0] if waiting else None)
        if sent is None:
            return
        self._world.ended_by_order(service.job_id, [attempt])
        if waiting:
            service.waiting.remove(sent)
        self._tell(service, sent, Outcome(attempt, FailureKind.NOT_STARTED))

    def _give_back_all(self, service: Service) -> None:
        while service.waiting:
            sent = service.waiting.popleft()
            self._tell(service, sent, Outcome(sent.attempt, FailureKind.NOT_STARTED))

    # ---- attempts ----

    def _pump(self, service: Service) -> None:
        while service.phase is PoolPhase.READY and service.waiting and len(service.running) < self.workers:
            sent = service.waiting.popleft()
            if self._world.mishap(0.01):
                self._tell(service, sent, Outcome(sent.attempt, FailureKind.NOT_STARTED))
            else:
                self._begin(service, sent)

    def _begin(self, service: Service, sent: Sent) -> None:
        service.running[sent.attempt] = sent
        items = self._world.planned(service.job_id, sent.index).items[sent.first : sent.first + sent.items]
        seconds = 0.01 + self._random.random() * 0.2
        if Item.SLOW in items and sent.first_try:
            seconds += self._random.choice((1.1, 1.4, 5.0))
        if Item.KILLER in items:
            self.later(seconds / 2, partial(self._kill, service, sent))
        self.later(seconds, partial(self._ran, service, sent, seconds))

    def _kill(self, service: Service, sent: Sent) -> None:
        if sent.attempt in service.running:
            self._world.kill(self)

    def _ran(self, service: Service, sent: Sent, seconds: float) -> None:
        if service.running.pop(sent.attempt, None) is None:
            return
        planned = self._world.planned(service.job_id, sent.index)
        flakes = Item.FLAKY in planned.items and self._world.flakes(service.job_id, sent.index)
        result = run(planned, sent.first, sent.items, flakes)
        if result.failure is not None:
            self._tell(service, sent, Outcome(sent.attempt, result.failure, elapsed=seconds))
        else:
            good = len(result.rows)
            outcome = Outcome(sent.attempt, None, good, result.failed_items, good, seconds)
            service.leaving[sent.attempt] = sent
            self._upload(service, sent, outcome, result)
        self._pump(service)
        self._flush_soon(service)

    def _upload(self, service: Service, sent: Sent, outcome: Outcome, result: Result) -> None:
        """Told once storage has it; tried again for as long as it has not."""
        due = max(self._world.storage.away_until - self.clock.now, 0.0) + self._random.random() * 0.02
        self.later(due, partial(self._uploaded, service, sent, outcome, result))

    def _uploaded(self, service: Service, sent: Sent, outcome: Outcome, result: Result) -> None:
        if sent.attempt not in service.leaving:
            return
        if self.clock.now < self._world.storage.away_until:
            self._upload(service, sent, outcome, result)
            return
        self._world.storage.write(sent.attempt, [(sent.index, item) for item in result.rows])
        del service.leaving[sent.attempt]
        self._tell(service, sent, outcome)

    # ---- what the scheduler is told ----

    def _say_status(self, service: Service) -> None:
        service.say_status = True
        self._flush_soon(service)

    def _tell(self, service: Service, sent: Sent, outcome: Outcome) -> None:
        if outcome.failure is not None and service.record.get(unit_of(sent)) == sent.attempt:
            del service.record[unit_of(sent)]
        service.untold.append((sent, outcome))
        self._flush_soon(service)

    def _flush_soon(self, service: Service) -> None:
        if not service.flushing:
            service.flushing = True
            self.later(self._random.random() * _JOIN, partial(self._flush, service))

    def _flush(self, service: Service) -> None:
        service.flushing = False
        if service.wire is None or self.services.get(service.job_id) is not service:
            return
        credits_ = self._credits(service)
        status = Status(service.phase, self.workers, service.held_up) if service.say_status else None
        if credits_ or status or service.untold:
            self._respond(service, service.wire, status, credits_)
        self._end_if_done(service)

    def _respond(self, service: Service, wire: Wire, status: Status | None, credits_: int) -> None:
        told, service.untold, service.say_status = service.untold, [], False
        service.granted += credits_
        if told:
            service.responses += 1
            if self._world.protections.acknowledged:
                service.unacknowledged.append((service.responses, told))
        wire.respond(Response(None, status, credits_, tuple(outcome for _, outcome in told)))

    def _credits(self, service: Service) -> int:
        if service.phase is not PoolPhase.READY or service.finishing or self.draining:
            return 0
        return credits_to_return(service.target, service.open, service.granted, leaving=bool(service.untold))

    def _end_if_done(self, service: Service) -> None:
        if service.finishing and service.idle and service.wire is not None:
            service.wire.end(End.RETURNED)
            self._forget(service)
