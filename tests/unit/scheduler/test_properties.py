"""Any sequence of events whatever, as hypothesis draws and shrinks it, held against the same book as the walk."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from batchmesh.scheduler.events import AttemptsEnded, JobCancelled, NodeDraining, NodeLost, StreamEnded, Ticked
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import ACTIVE, FINAL, FailureKind, Limits, State
from tests.simulation.bench import JOB, Bench
from tests.simulation.controls import CountsLosses, DecidesPartByPart

NODES = ("a", "b", "c")
KINDS = (
    None,
    None,
    None,
    FailureKind.RUN_RAISED,
    FailureKind.WORKER_CRASHED,
    FailureKind.READ_FAILED,
    FailureKind.NOT_STARTED,
)
nodes = st.sampled_from(NODES)
picks = st.integers(0, 2**16)


class Life(RuleBasedStateMachine):
    """One job on three nodes; the Bench raises for whatever an invariant forbids."""

    machine = Machine
    bench: Bench

    @initialize(
        tries=st.integers(1, 3),
        backups=st.booleans(),
        isolates=st.booleans(),
        items=st.lists(st.integers(1, 9), min_size=1, max_size=6),
        planned=st.integers(0, 6),
    )
    def begin(self, tries: int, backups: bool, isolates: bool, items: list[int], planned: int) -> None:
        limits = Limits(
            run_max_try=tries,
            error_threshold=-1,
            needs_rows=False,
            isolate_failures=isolates,
            backup_attempts=backups,
        )
        self.bench = Bench(limits, items, self.machine)
        self.bench.plan(planned)
        for node in NODES[:2]:
            self.bench.join(node)
            self.bench.connect(node)
            self.bench.grant(node, 2)

    def active(self) -> bool:
        return self.bench.state in ACTIVE

    def has_ended(self) -> bool:
        return self.bench.state in FINAL

    # ---- the plan and the scheduler ----

    @rule(count=st.integers(1, 4))
    @precondition(lambda self: self.active() and not self.bench.table.planning_ended)
    def plan(self, count: int) -> None:
        self.bench.plan(count)

    @rule(seconds=st.sampled_from((0.25, 1.0, 2.0, 11.0)))
    def tick(self, seconds: float) -> None:
        self.bench.now += seconds
        self.bench.tell(Ticked())

    @rule()
    @precondition(lambda self: not self.has_ended())
    def restart(self) -> None:
        self.bench.start()

    @rule()
    @precondition(lambda self: self.active() and self.bench.now > 60)
    def cancel(self) -> None:
        self.bench.tell(JobCancelled(JOB))

    @rule(damaged=st.sets(st.integers(0, 5), max_size=2))
    @precondition(lambda self: self.bench.publishing)
    def publish(self, damaged: set[int]) -> None:
        self.bench.publish([index for index in damaged if index < self.bench.table.planned])

    # ---- nodes and streams ----

    @rule(node=nodes)
    def join(self, node: str) -> None:
        self.bench.join(node)

    @rule(node=nodes, left=st.booleans())
    def lose(self, node: str, left: bool) -> None:
        if node in self.bench.nodes:
            self.bench.nodes.pop(node)
            self.bench.tell(NodeLost(node, left))
            self.bench.table.serving.discard(node)

    @rule(node=nodes)
    def drain(self, node: str) -> None:
        if node in self.bench.nodes:
            self.bench.tell(NodeDraining(node))

    @rule(node=nodes, pick=picks, loses=st.booleans())
    def connect(self, node: str, pick: int, loses: bool) -> None:
        if node in self.bench.nodes and self.bench.nodes[node].asked:
            held = sorted(self.bench.nodes[node].attempts)
            self.bench.connect(node, [held[pick % len(held)]] if held and loses else [])

    @rule(node=nodes, broken=st.booleans())
    def stream_ends(self, node: str, broken: bool) -> None:
        if node in self.bench.nodes and (self.bench.nodes[node].connected or self.bench.nodes[node].asked):
            here = self.bench.nodes[node]
            here.asked = here.connected = False
            if not broken:
                here.attempts.clear()
            self.bench.tell(StreamEnded(JOB, node, broken))

    # ---- attempts ----

    @rule(node=nodes, count=st.integers(1, 4))
    def grant(self, node: str, count: int) -> None:
        if node in self.bench.nodes and self.bench.nodes[node].connected:
            self.bench.grant(node, count)

    @rule(pick=picks, kind=st.sampled_from(KINDS), short=st.sampled_from((0, 0, 1)))
    @precondition(lambda self: self.bench.out())
    def end(self, pick: int, kind: FailureKind | None, short: int) -> None:
        out = self.bench.out()
        self.bench.end(out[pick % len(out)], kind, short)

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    @precondition(lambda self: self.bench.out())
    def end_all(self, kinds: list[FailureKind | None]) -> None:
        for place, attempt in enumerate(self.bench.out()):
            if attempt in self.bench.out():
                self.bench.end(attempt, kinds[place % len(kinds)])
        for node, here in self.bench.nodes.items():
            if here.connected:
                self.bench.grant(node, 2)

    @rule(pick=picks)
    @precondition(lambda self: self.bench.ended)
    def tell_again(self, pick: int) -> None:
        ended = self.bench.ended
        self.bench.tell(AttemptsEnded(JOB, [ended[pick % len(ended)]]))

    # ---- the end ----

    def teardown(self) -> None:
        """With one sound node, whatever has happened before, the job comes to its end."""
        if not hasattr(self, "bench"):
            return
        bench = self.bench
        for node in list(bench.nodes):
            self.lose(node, left=False)
        bench.join("sound")
        for _ in range(500):
            if self.has_ended():
                break
            self._go_on()
        assert bench.state is (State.CANCELLED if bench.job.cancelled else State.SUCCEEDED)

    def _go_on(self) -> None:
        bench = self.bench
        if not bench.table.planning_ended and self.active():
            bench.plan(6)
        if bench.publishing:
            bench.publish()
        node = bench.nodes["sound"]
        if node.asked:
            bench.connect("sound")
        if node.connected and not node.attempts:
            bench.grant("sound", 4)
        for attempt in bench.out():
            if attempt in node.attempts:
                bench.end(attempt)
        self.tick(1.0)


#: Always the same sequences, so that the suite says the same of the same code.
EXAMPLES = settings(
    max_examples=150,
    stateful_step_count=60,
    derandomize=True,
    deadline=None,
    print_blob=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def test_no_sequence_of_events_breaks_an_invariant_or_keeps_a_job_from_its_end() -> None:
    run_state_machine_as_test(Life, settings=EXAMPLES)


@pytest.mark.parametrize("machine", [CountsLosses, DecidesPartByPart])
def test_a_machine_with_a_mistake_is_found_out(machine: type[Machine]) -> None:
    wrong = type(f"LifeThat{machine.__name__}", (Life,), {"machine": machine})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(wrong, settings=settings(EXAMPLES, phases=[Phase.generate]))
