"""Which nodes serve which jobs, once nodes are of compute targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmesh.scheduler.events import JobSubmitted, NodeDraining, NodeJoined, NodeLost, OpenPool, Ticked
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import Belonging, Limits

if TYPE_CHECKING:
    from batchmesh.scheduler.events import Event

PLAIN = NodeJoined("plain")
LOCAL = NodeJoined("local", Belonging("cpu", dedicated=True))
JOINED = NodeJoined("joined", Belonging("gpu"))


def served_by(target: str, *, joined_first: bool, node_count: int = 0) -> set[str]:
    """The nodes that a job of that target opens pools on."""
    machine = Machine(epoch=1)
    submitted = JobSubmitted("job", Limits(compute_target=target, node_count=node_count))
    nodes = [PLAIN, LOCAL, JOINED]
    events: list[Event] = [*nodes, submitted] if joined_first else [submitted, *nodes]
    commands = [command for event in (*events, Ticked()) for command in machine.handle(event, 0.0)]
    return {command.node_id for command in commands if isinstance(command, OpenPool)}


@pytest.mark.parametrize("joined_first", [True, False])
def test_a_job_of_a_target_is_served_by_its_nodes_alone(joined_first: bool) -> None:
    assert served_by("cpu", joined_first=joined_first) == {"local"}
    assert served_by("gpu", joined_first=joined_first) == {"joined"}
    assert served_by("other", joined_first=joined_first) == set()


@pytest.mark.parametrize("joined_first", [True, False])
def test_a_job_of_no_target_is_served_by_all_nodes_but_those_dedicated_to_one(joined_first: bool) -> None:
    assert served_by("", joined_first=joined_first) == {"plain", "joined"}


def test_nodes_of_other_targets_take_no_place_of_a_jobs_node_count() -> None:
    assert served_by("gpu", joined_first=True, node_count=1) == {"joined"}


def test_a_node_that_comes_back_to_another_target_serves_that_one() -> None:
    machine = Machine(epoch=1)
    machine.handle(JobSubmitted("job", Limits(compute_target="cpu")), 0.0)
    assert machine.handle(NodeJoined("a", Belonging("gpu")), 0.0) == []
    machine.handle(NodeLost("a"), 1.0)
    assert machine.handle(NodeJoined("a", Belonging("cpu")), 2.0) == [OpenPool("job", "a")]


@given(
    st.lists(st.tuples(st.sampled_from(("join", "drain", "lose", "submit", "tick")), st.integers(0, 5)), max_size=40)
)
def test_whatever_comes_and_goes_no_job_gets_a_node_that_may_not_serve_it(story: list[tuple[str, int]]) -> None:
    machine = Machine(epoch=1)
    belongings = [Belonging(target, dedicated) for target in ("", "cpu", "gpu") for dedicated in (False, True)]
    for now, (what, number) in enumerate(story):
        events: dict[str, Event] = {
            "join": NodeJoined(f"node-{number}", belongings[number]),
            "drain": NodeDraining(f"node-{number}"),
            "lose": NodeLost(f"node-{number}"),
            "submit": JobSubmitted(f"job-{now}", Limits(compute_target=("", "cpu", "gpu")[number % 3])),
            "tick": Ticked(),
        }
        for command in machine.handle(events[what], float(now)):
            if isinstance(command, OpenPool):
                wanted = machine.jobs[command.job_id].limits.compute_target
                assert belongings[int(command.node_id.removeprefix("node-"))].serves(wanted)
