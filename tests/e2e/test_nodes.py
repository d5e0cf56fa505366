"""Nodes that come, go and die while a job runs."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from batchmesh.client import Client
from tests.support.counted import Counted
from tests.support.mesh import Mesh
from tests.support.story import (
    adds_up,
    final,
    lines,
    run_job,
    succeeded,
    until,
    wait_for,
    write_files,
    write_script,
)
from tests.support.wired_mesh import WiredMesh, beats, streams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Each run() waits until the test lets it go on, or 30 s at most, and says where it ran; LAST has a gate of its own.
GATED = """
    import os, time

    def run(mini_batch):
        with open(os.path.join(os.environ["MARKS"], f"started-{os.getppid()}"), "a") as file:
            file.write("x")
        gate = os.environ["GATE"]
        if mini_batch[0].endswith(os.environ.get("LAST", "/")):
            gate += "-of-the-last"
        deadline = time.monotonic() + 30
        while not os.path.exists(gate) and time.monotonic() < deadline:
            time.sleep(0.01)
        return [f"{os.path.basename(path)} {os.getppid()}" for path in mini_batch]
"""


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Mesh]:
    folder = tmp_path / "mesh"
    folder.mkdir()
    with Mesh(folder, agents=2, scheduler_options=("--lease", "3", "--heartbeat", "0.3")) as mesh:
        yield mesh


class Gate:
    """Holds the runs of GATED until `open`; `agents` names those of which a run has begun."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "marks"
        self.folder.mkdir(parents=True)
        self.file = folder / "gate"

    @property
    def environment(self) -> dict[str, str]:
        return {"MARKS": str(self.folder), "GATE": str(self.file)}

    def open(self) -> None:
        self.file.touch()

    def open_last(self) -> None:
        self.file.with_name("gate-of-the-last").touch()

    def runs(self) -> int:
        """How often run() was called, whatever became of it."""
        return sum(len(path.read_text()) for path in self.folder.iterdir())

    def agents(self) -> set[int]:
        return {int(path.name.removeprefix("started-")) for path in self.folder.iterdir()}


def names(rows: list[str]) -> list[str]:
    return [row.split()[0] for row in rows]


def test_two_agents_share_a_job_and_the_output_is_in_order(two: Mesh, tmp_path: Path) -> None:
    paths, gate = write_files(tmp_path / "in", 40, str), Gate(tmp_path)
    script = write_script(tmp_path, GATED)
    with Client(two.address) as client:
        job = client.submit(
            script, tmp_path / "in", tmp_path / "out", mini_batch_size=1, environment_variables=gate.environment
        )
        wait_for(lambda: len(gate.agents()) == 2, "a run on each agent")
        gate.open()
        rows = lines(succeeded(final(client, job.job_id)))
    assert names(rows) == [path.name for path in paths]
    assert {int(row.split()[1]) for row in rows} == gate.agents()


def test_node_count_bounds_the_nodes_of_a_job(two: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 40, str)
    gate = Gate(tmp_path)
    gate.open()
    job = run_job(
        two.address,
        write_script(tmp_path, GATED),
        tmp_path / "in",
        tmp_path / "out",
        mini_batch_size=1,
        node_count=1,
        environment_variables=gate.environment,
    )
    assert len({row.split()[1] for row in lines(succeeded(job))}) == 1


def test_an_agent_that_joins_late_takes_part(tmp_path: Path) -> None:
    paths, gate = write_files(tmp_path / "in", 30, str), Gate(tmp_path)
    folder = tmp_path / "mesh"
    folder.mkdir()
    with Mesh(folder, agents=0) as mesh, Client(mesh.address) as client:
        script = write_script(tmp_path, GATED)
        job = client.submit(
            script, tmp_path / "in", tmp_path / "out", mini_batch_size=1, environment_variables=gate.environment
        )
        waiting = until(client, job.job_id, lambda job: job.progress.planned_mini_batches == 30)
        assert "no node has joined" in waiting.waiting_for
        first = mesh.add_agent()
        wait_for(lambda: gate.agents() == {first.process.pid}, "a run on the first agent")
        second = mesh.add_agent()
        wait_for(lambda: len(gate.agents()) == 2, "a run on the second agent")
        gate.open()
        rows = lines(succeeded(final(client, job.job_id)))
        assert names(rows) == [path.name for path in paths]
        assert gate.agents() == {first.process.pid, second.process.pid}


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_node_that_dies_or_hangs_costs_no_row_and_no_try(two: Mesh, tmp_path: Path, fault: signal.Signals) -> None:
    paths, gate = write_files(tmp_path / "in", 20, str), Gate(tmp_path)
    with Client(two.address) as client:
        job = client.submit(
            write_script(tmp_path, GATED),
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=1,
            run_max_try=1,
            environment_variables=gate.environment,
        )
        wait_for(lambda: len(gate.agents()) == 2, "a run on each agent")
        victim = two.services[-1].process
        victim.send_signal(fault)
        wait_for(lambda: len(client.nodes()) == 1, "the node's lease to end")
        gate.open()
        done = succeeded(final(client, job.job_id))
    two.services[-1].kill()
    assert names(lines(done)) == [path.name for path in paths]
    assert done.progress.retried_attempts == 0
    adds_up(done)


@pytest.mark.parametrize("returns", ["while the job runs", "after its end"])
def test_a_zombie_adds_nothing_to_the_output(two: Mesh, tmp_path: Path, returns: str) -> None:
    paths, gate = write_files(tmp_path / "in", 12, str), Gate(tmp_path)
    survivor, zombie = two.services[-2].process, two.services[-1].process
    with Client(two.address) as client:
        job = client.submit(
            write_script(tmp_path, GATED),
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=1,
            backup_attempts=False,
            environment_variables={**gate.environment, "LAST": paths[-1].name},
        )
        wait_for(lambda: gate.runs() == 4, "two runs on each agent")
        zombie.send_signal(signal.SIGSTOP)
        wait_for(lambda: len(client.nodes()) == 1, "the node's lease to end")
        gate.open()  # also for the workers of the zombie, which live
        until(client, job.job_id, lambda job: job.progress.succeeded_mini_batches == 11)
        if returns == "after its end":
            gate.open_last()
            final(client, job.job_id)
        zombie.send_signal(signal.SIGCONT)
        wait_for(lambda: len(client.nodes()) == 2, "the node to join again")
        if returns == "while the job runs":
            wait_for(lambda: all(job.job_id in node.job_ids for node in client.nodes()), "it to serve the job again")
            gate.open_last()
        done = succeeded(final(client, job.job_id))
    rows = lines(done)
    assert names(rows) == [path.name for path in paths]
    assert {int(row.split()[1]) for row in rows} == {survivor.pid}
    assert done.progress.retried_attempts == 0
    adds_up(done)


def test_a_cut_of_less_than_a_lease_costs_no_run(tmp_path: Path) -> None:
    story = Counted(tmp_path / "job", 80, SECONDS=0.05)
    (tmp_path / "mesh").mkdir()
    with WiredMesh(tmp_path / "mesh", agents=2, lease=30.0) as mesh:
        follower = story.follow(mesh.address, "cut")
        for number, wire in enumerate(mesh.wires.values()):
            wait_for(lambda: len(story.runs()) > 4 * number, "more runs")  # noqa: B023 it is waited for here
            wire.cut()
        wait_for(lambda: len(story.runs()) > 40, "more runs")
        detached = mesh.agent(0).log.read_text().count("detached")
        for name in (beats(0), streams(0)):
            mesh.wires[name].unplug()
        wait_for(lambda: mesh.agent(0).log.read_text().count("detached") > detached, "the node to be alone")
        mesh.heal()
        assert follower.done.wait(60)
        assert follower.error is None
    story.is_right(follower.job)
    story.ran_once_each()


def test_a_draining_agent_ends_what_runs_and_leaves(two: Mesh, tmp_path: Path) -> None:
    paths, gate = write_files(tmp_path / "in", 20, str), Gate(tmp_path)
    leaver = two.services[-1]
    with Client(two.address) as client:
        job = client.submit(
            write_script(tmp_path, GATED),
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=1,
            environment_variables=gate.environment,
        )
        wait_for(lambda: len(gate.agents()) == 2, "a run on each agent")
        leaver.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "DRAINING" in {node.state for node in client.nodes()}, "the node to say that it drains")
        gate.open()
        assert leaver.process.wait(30) == 0
        done = succeeded(final(client, job.job_id))
    rows = lines(done)
    assert names(rows) == [path.name for path in paths]
    assert str(leaver.process.pid) in {row.split()[1] for row in rows}
    assert done.progress.retried_attempts == 0
    assert gate.runs() == 20


def test_a_draining_agent_takes_nothing_new(two: Mesh, tmp_path: Path) -> None:
    paths, gate, other = write_files(tmp_path / "in", 20, str), Gate(tmp_path), Gate(tmp_path / "other")
    script = write_script(tmp_path, GATED)
    stayer, leaver = two.services[-2].process, two.services[-1].process
    with Client(two.address) as client:

        def submitted(gate: Gate, output: str) -> str:
            return client.submit(
                script,
                tmp_path / "in",
                tmp_path / output,
                mini_batch_size=1,
                process_count_per_node=1,
                environment_variables=gate.environment,
            ).job_id

        first = submitted(gate, "first")
        wait_for(lambda: len(gate.agents()) == 2, "a run on each agent")
        leaver.send_signal(signal.SIGTERM)
        wait_for(lambda: "DRAINING" in {node.state for node in client.nodes()}, "the node to say that it drains")
        other.open()
        rows = lines(succeeded(final(client, submitted(other, "second"))))
        assert names(rows) == [path.name for path in paths]
        assert other.agents() == {stayer.pid}
        gate.open()
        succeeded(final(client, first))
    assert gate.runs() == other.runs() == 20


def test_a_run_that_outlasts_the_drain_goes_elsewhere_without_a_try(tmp_path: Path) -> None:
    paths, gate = write_files(tmp_path / "in", 20, str), Gate(tmp_path)
    (tmp_path / "mesh").mkdir()
    with (
        Mesh(tmp_path / "mesh", agents=2, agent_options=("--drain-timeout", "1")) as mesh,
        Client(mesh.address) as client,
    ):
        job = client.submit(
            write_script(tmp_path, GATED),
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=1,
            run_max_try=1,
            environment_variables=gate.environment,
        )
        wait_for(lambda: len(gate.agents()) == 2, "a run on each agent")
        stayer, leaver = mesh.services[-2].process, mesh.services[-1].process
        leaver.send_signal(signal.SIGTERM)
        assert leaver.wait(30) == 0, "it has left although its runs had not ended"
        gate.open()
        done = succeeded(final(client, job.job_id))
    rows = lines(done)
    assert names(rows) == [path.name for path in paths]
    assert {int(row.split()[1]) for row in rows} == {stayer.pid}
    assert done.progress.retried_attempts == 0


def test_what_a_leaving_node_told_last_counts_though_the_disk_is_slow(tmp_path: Path) -> None:
    paths, gate = write_files(tmp_path / "in", 12, str), Gate(tmp_path)
    folder = tmp_path / "mesh"
    folder.mkdir()
    with Mesh(folder, scheduler_options=("--durable-delay", "0.2")) as mesh, Client(mesh.address) as client:
        job = client.submit(
            write_script(tmp_path, GATED),
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=1,
            environment_variables=gate.environment,
        )
        wait_for(gate.agents, "a run to begin")
        leaver = mesh.services[-1].process
        leaver.send_signal(signal.SIGTERM)
        wait_for(lambda: "DRAINING" in {node.state for node in client.nodes()}, "the node to say that it drains")
        gate.open()
        assert leaver.wait(30) == 0
        mesh.add_agent()
        done = succeeded(final(client, job.job_id))
    assert names(lines(done)) == [path.name for path in paths]
    assert gate.runs() == 12


def test_two_jobs_share_the_slots_of_a_node(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 6, str)
    gates = []
    with Client(mesh.address) as client:
        jobs = []
        for number in range(2):
            folder = tmp_path / f"job-{number}"
            folder.mkdir()
            gates.append(Gate(folder))
            script = write_script(folder, GATED + f"\n    NUMBER = {number}\n")
            jobs.append(
                client.submit(
                    script,
                    tmp_path / "in",
                    folder / "out",
                    mini_batch_size=1,
                    environment_variables=gates[-1].environment,
                )
            )
        wait_for(gates[0].agents, "the first job to run")
        gates[0].open()
        gates[1].open()
        for job in jobs:
            succeeded(final(client, job.job_id))
