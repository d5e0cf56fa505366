"""Random lives of a job: whatever comes in whatever order, each item is accounted for once and no window is overrun."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from batchmesh.scheduler.events import (
    AttemptEnd,
    AttemptsEnded,
    ClosePool,
    Commit,
    CreditsGranted,
    Discard,
    Dispatch,
    JobSubmitted,
    MiniBatchesPlanned,
    NodeJoined,
    NodeLost,
    OpenPool,
    OutputCommitted,
    PlanGrew,
    PoolChanged,
    StreamEnded,
    Ticked,
)
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import Failure, FailureKind, JobState, Limits, MiniBatch, PoolPhase, State

if TYPE_CHECKING:
    from batchmesh.scheduler.events import Command, Event

JOB = "job-1"
NODES = ("a", "b", "c")
ITEMS = 10


class World:
    """A planner, three nodes and their wires, all of them unreliable; it holds the Machine to its invariants."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.machine = Machine(epoch=1)
        self.now = 0.0
        self.total = self.random.randint(1, 60)
        self.planned = 0
        self.open: dict[str, dict[int, int]] = {}
        self.granted: dict[str, int] = {}
        self.late: list[int] = []
        self.good: set[int] = set()
        self.bad: set[int] = set()
        self.tries: dict[int, int] = {}
        self.ends = 0
        limits = Limits(run_max_try=3, error_threshold=-1, needs_rows=False)
        self.tell(JobSubmitted(JOB, limits))
        for node in NODES:
            self.tell(NodeJoined(node))

    @property
    def job(self) -> JobState:
        return self.machine.jobs[JOB]

    def state(self) -> State:
        return self.job.state

    def tell(self, event: Event) -> None:
        for command in self.machine.handle(event, self.now):
            self.obey(command)
        self.check()

    def obey(self, command: Command) -> None:
        if isinstance(command, OpenPool):
            assert command.node_id not in self.open, "a second stream to the same node"
            self.open[command.node_id], self.granted[command.node_id] = {}, 0
        elif isinstance(command, ClosePool):
            self.late += list(self.open.pop(command.node_id, {}))
        elif isinstance(command, Dispatch):
            self.take(command)
        elif isinstance(command, Commit | Discard):
            self.ends += 1

    def take(self, command: Dispatch) -> None:
        self.granted[command.node_id] -= len(command.attempts)
        assert self.granted[command.node_id] >= 0, "more than was asked for"
        for attempt, index, number in command.attempts:
            assert index not in self.good | self.bad, "a settled mini-batch runs again"
            assert all(index not in each.values() for each in self.open.values()), "one mini-batch runs twice"
            assert number == self.tries.get(index, 0) + 1
            self.open[command.node_id][attempt] = index

    def check(self) -> None:
        counts = self.job.counts
        assert counts.succeeded_items == ITEMS * len(self.good)
        assert counts.failed_items == ITEMS * len(self.bad)
        if self.state() in (State.PENDING, State.RUNNING):
            out = {index for each in self.open.values() for index in each.values()}
            assert {running.mini_batch.index for running in self.job.running.values()} == out
            waiting = [each.index for each in self.job.waiting]
            assert len(waiting) == len(set(waiting))
            assert not (set(waiting) & (out | self.good | self.bad))
        assert self.ends <= 1, "an output is ended twice"

    # what may happen

    def plan(self) -> None:
        count = min(self.random.randint(1, 8), self.total - self.planned)
        if self.job.counts.planning_ended:
            return
        batches = [MiniBatch(self.planned + each, ITEMS) for each in range(count)]
        self.planned += count
        self.tell(PlanGrew(JOB, count, count * ITEMS, ended=self.planned == self.total))
        self.tell(MiniBatchesPlanned(JOB, batches))

    def grant(self) -> None:
        if self.open:
            node, count = self.random.choice(list(self.open)), self.random.randint(1, 4)
            self.granted[node] += count
            self.tell(PoolChanged(JOB, node, PoolPhase.READY, 2))
            self.tell(CreditsGranted(JOB, node, count))

    def finish(self) -> None:
        busy = [node for node in self.open if self.open[node]]
        if not busy:
            return
        node = self.random.choice(busy)
        attempt = self.random.choice(list(self.open[node]))
        index = self.open[node].pop(attempt)
        kind = self.random.choice([None, None, None, FailureKind.RUN_RAISED, FailureKind.NOT_STARTED])
        if kind is None:
            self.good.add(index)
            end = AttemptEnd(attempt, ITEMS, 0, ITEMS)
        else:
            self.tries[index] = self.tries.get(index, 0) + (kind is FailureKind.RUN_RAISED)
            if self.tries[index] == 3:
                self.bad.add(index)
            end = AttemptEnd(attempt, failure=Failure(kind, "no"))
        self.late.append(attempt)
        self.tell(AttemptsEnded(JOB, [end]))

    def tell_late(self) -> None:
        """An outcome that comes a second time, or from a node that was given up, counts nothing."""
        if self.late:
            self.tell(AttemptsEnded(JOB, [AttemptEnd(self.random.choice(self.late), ITEMS, 0, ITEMS)]))

    def break_stream(self) -> None:
        if self.open:
            node = self.random.choice(list(self.open))
            self.late += list(self.open.pop(node))
            self.tell(StreamEnded(JOB, node))

    def lose(self) -> None:
        if len(self.machine.nodes) > 1:
            node = self.random.choice(list(self.machine.nodes))
            self.late += list(self.open.pop(node, {}))
            self.tell(NodeLost(node))

    def join(self) -> None:
        self.tell(NodeJoined(self.random.choice(NODES)))

    def tick(self) -> None:
        self.now += self.random.random()
        self.tell(Ticked())


@pytest.mark.parametrize("seed", range(150))
def test_a_random_life_keeps_every_invariant_and_comes_to_its_end(seed: int) -> None:
    world = World(seed)
    steps = (world.plan, world.grant, world.finish, world.finish, world.tell_late, world.tick, world.join)
    rare = (world.break_stream, world.lose)
    for _ in range(20_000):
        world.random.choice(steps if world.random.random() < 0.97 else rare)()
        if world.state() not in (State.PENDING, State.RUNNING):
            break
    assert world.state() is State.COMMITTING
    assert len(world.good) + len(world.bad) == world.total
    world.tell(OutputCommitted(JOB))
    assert world.state() is State.SUCCEEDED
