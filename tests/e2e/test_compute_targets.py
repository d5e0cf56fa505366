"""Nodes under a name: they come when a job asks for them, go when none does, and outlive what dies around them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from batchmesh.client import Client
from batchmesh.compute import ComputeTarget
from batchmesh.errors import BadName, NoComputeTarget, NoSupervisor, SpecRefused
from tests.support.living import command, first_line, process_of, processes_of, started
from tests.support.story import final, lines, run_job, succeeded, until, wait_for, write_files, write_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.mesh import Mesh

#: Each run() notes its agent, waits for the gate, 30 s at most, and says which agent it ran under.
GATED = """
    import os, time
    def run(mini_batch):
        open(os.path.join(os.environ["MARKS"], str(os.getppid())), "w").close()
        deadline = time.monotonic() + 30
        while not os.path.exists(os.environ["GATE"]) and time.monotonic() < deadline:
            time.sleep(0.01)
        return [os.getppid()] * len(mini_batch)
"""
CPU = ComputeTarget("cpu", min_nodes=0, max_nodes=2, idle_seconds=0.5, slots=1)


@contextmanager
def home_of(folder: Path) -> Iterator[Path]:
    """A home of which nothing may be alive at the end."""
    path = folder / "home"
    try:
        yield path
        wait_for(lambda: not processes_of(path), "the end of the home's processes", 15)
    finally:
        for pid in processes_of(path):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def standing(home: Path) -> Iterator[Client]:
    """A client of the mesh of `batchmesh up`, which ends with the block."""
    with started(home, "up", "--slots", "1") as process:
        address = first_line(process)
        assert address, process.stderr and process.stderr.read()
        with Client(address) as client:
            yield client
        process.terminate()
        process.wait(15)


@pytest.fixture(scope="module")
def standing_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Client]]:
    with home_of(tmp_path_factory.mktemp("up")) as path, standing(path) as client:
        yield path, client


@pytest.fixture
def home(standing_home: tuple[Path, Client]) -> Path:
    """The home of `batchmesh up`, whose mesh the stories share."""
    return standing_home[0]


@pytest.fixture
def up(standing_home: tuple[Path, Client]) -> Iterator[Client]:
    """Its client; what targets a story leaves are deleted."""
    path, client = standing_home
    yield client
    for target in client.compute_targets.list():
        client.compute_targets.delete(target.name)
    wait_for(lambda: not crew_of(path), "the end of its agents", 20)


def crew_of(home: Path) -> set[int]:
    """Process ids of the agents of its compute targets."""
    return {pid for pid, line in processes_of(home).items() if "--compute-target" in line and "batchmesh.agent" in line}


def submitted(client: Client, folder: Path, *, target: str = "cpu", count: int = 8) -> str:
    """A job of `count` mini-batches, on two nodes at most, that wait for `gate` in that folder."""
    write_files(folder / "in", count)
    (folder / "marks").mkdir()
    job = client.submit(
        write_script(folder, GATED),
        folder / "in",
        folder / "out",
        attended=True,
        compute_target=target,
        mini_batch_size=1,
        node_count=2,
        environment_variables={"GATE": str(folder / "gate"), "MARKS": str(folder / "marks")},
    )
    return job.job_id


def agents_in(folder: Path, count: int = 2) -> set[int]:
    """The agents under which a run() of the job has begun, once there are so many."""
    marks = folder / "marks"
    wait_for(lambda: len(list(marks.iterdir())) >= count, f"a run on {count} nodes")
    return {int(path.name) for path in marks.iterdir()}


def steady(client: Client, nodes: int) -> ComputeTarget:
    """The target once it has so many nodes, and wants no others."""

    def there() -> ComputeTarget | None:
        target = client.compute_targets.get("cpu")
        here = (target.joined_nodes, target.wanted_nodes, target.state)
        return target if here == (nodes, nodes, "STEADY") else None

    found: ComputeTarget = wait_for(there, f"{nodes} nodes", 20)
    return found


def test_nodes_come_for_a_job_serve_it_and_go_once_idle(home: Path, up: Client, tmp_path: Path) -> None:
    made = up.compute_targets.create(CPU)
    assert (made.wanted_nodes, made.joined_nodes, made.error) == (0, 0, "")
    assert up.compute_targets.create(CPU).created == made.created, "the same again is the same"
    job_id = submitted(up, tmp_path)
    waiting = until(up, job_id, lambda job: bool(job.waiting_for)).waiting_for
    assert waiting.startswith("compute target cpu has no node yet (0 of ")
    agents = agents_in(tmp_path)
    here = up.compute_targets.get("cpu")
    assert (here.wanted_nodes, here.joined_nodes, here.busy_nodes) == (2, 2, 2)
    assert sorted(node.compute_target for node in up.nodes()) == ["", "cpu", "cpu"]
    assert agents == crew_of(home)
    (tmp_path / "gate").touch()
    assert {int(row) for row in lines(succeeded(final(up, job_id)))} == agents, "both of its nodes, and no other"
    steady(up, 0)
    wait_for(lambda: not crew_of(home), "the end of its agents", 20)


def test_the_minimum_stays_is_changed_by_another_create_and_ends_with_the_target(home: Path, up: Client) -> None:
    up.compute_targets.create(ComputeTarget("cpu", min_nodes=1, max_nodes=2, idle_seconds=0.2, slots=1))
    steady(up, 1)
    (first,) = crew_of(home)
    up.compute_targets.create(ComputeTarget("cpu", min_nodes=2, max_nodes=2, idle_seconds=0.2, slots=1))
    steady(up, 2)
    assert first in crew_of(home)
    up.compute_targets.create(ComputeTarget("cpu", min_nodes=1, max_nodes=2, idle_seconds=0.2, slots=1))
    steady(up, 1)
    up.compute_targets.delete("cpu")
    wait_for(lambda: not crew_of(home), "the end of its agents", 20)
    assert up.compute_targets.list() == ()
    with pytest.raises(NoComputeTarget, match="There is no compute target 'cpu'"):
        up.compute_targets.get("cpu")


def test_a_killed_agent_of_a_target_costs_nothing_but_time(home: Path, up: Client, tmp_path: Path) -> None:
    up.compute_targets.create(CPU)
    job_id = submitted(up, tmp_path)
    killed = min(agents_in(tmp_path))
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: len(crew_of(home) - {killed}) == 2, "another in its place", 20)
    (tmp_path / "gate").touch()
    job = succeeded(final(up, job_id))
    assert (len(lines(job)), job.progress.failed_items) == (8, 0)
    assert str(killed) not in lines(job)


def test_targets_and_their_agents_outlive_a_killed_scheduler(home: Path, up: Client, tmp_path: Path) -> None:
    up.compute_targets.create(CPU)
    job_id = submitted(up, tmp_path)
    crew, dead = agents_in(tmp_path), process_of(home, "batchmesh.scheduler")
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: up.compute_targets.get("cpu").busy_nodes == 2, "both to serve it again")
    assert process_of(home, "batchmesh.scheduler") != dead
    assert crew_of(home) == crew
    (tmp_path / "gate").touch()
    job = succeeded(final(up, job_id))
    assert {int(row) for row in lines(job)} <= crew
    assert job.progress.retried_attempts == 0
    steady(up, 0)


def test_nodes_of_a_deleted_target_finish_what_they_have_and_its_job_waits_for_the_next(
    home: Path, up: Client, tmp_path: Path
) -> None:
    up.compute_targets.create(CPU)
    job_id = submitted(up, tmp_path, count=12)
    agents = agents_in(tmp_path)
    up.compute_targets.delete("cpu")
    wait_for(lambda: [str(node.state) for node in up.nodes()].count("DRAINING") == 2, "both to drain")
    assert crew_of(home) == agents, "they still run what they have"
    (tmp_path / "gate").touch()
    job = until(up, job_id, lambda job: "compute target cpu is no more; create it again" in job.waiting_for)
    assert job.progress.succeeded_mini_batches >= 2
    up.compute_targets.create(CPU)
    job = succeeded(final(up, job_id))
    assert (len(lines(job)), job.progress.retried_attempts) == (12, 0)
    assert {int(row) for row in lines(job)} & agents, "what they had is in the output"


def test_a_target_whose_agents_cannot_start_says_why_and_goes_on_once_they_can(
    home: Path, up: Client, tmp_path: Path
) -> None:
    shutil.rmtree(home / "crew-1", ignore_errors=True)
    (home / "crew-1").write_text("no folder")
    up.compute_targets.create(ComputeTarget("cpu", slots=1))
    (tmp_path / "gate").touch()
    job_id = submitted(up, tmp_path)
    why = f"compute target cpu has no node yet (0 of 1): The work folder {home}/crew-1 cannot be used"
    wait_for(lambda: why in up.get(job_id).waiting_for, "the job to say why")
    (home / "crew-1").unlink()
    succeeded(final(up, job_id))
    assert up.compute_targets.get("cpu").error == ""


def test_an_embedded_mesh_has_local_targets_ends_their_agents_and_has_them_again_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with home_of(tmp_path) as home:
        monkeypatch.setenv("BATCHMESH_HOME", str(home))
        with Client(home=home) as client:
            made = client.compute_targets.create(CPU)
            job_id = submitted(client, tmp_path)
            agents = agents_in(tmp_path)
            (tmp_path / "gate").touch()
            assert {int(row) for row in lines(succeeded(final(client, job_id)))} == agents == crew_of(home)
        wait_for(lambda: not processes_of(home), "the end of the mesh", 15)
        with Client(home=home) as client:
            assert [target.created for target in client.compute_targets.list()] == [made.created]
            assert crew_of(home) == set()


def test_nodes_that_join_by_themselves_serve_the_jobs_of_their_target(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    with Client(mesh.address) as client:
        client.compute_targets.create(ComputeTarget("gpu", kind="joined", max_nodes=4, vm_size="large"))
        job_id = submitted(client, tmp_path, target="gpu")
        waiting = until(client, job_id, lambda job: bool(job.waiting_for)).waiting_for
        assert waiting == (
            "compute target gpu has no node yet (0 of 1); start one with `batchmesh agent --compute-target gpu`"
        )
        options = ("--scheduler", mesh.address, "--work", str(tmp_path / "work"), "--compute-target", "gpu")
        agent = mesh.start("agent", *options)
        job = succeeded(final(client, job_id))
        assert {int(row) for row in lines(job)} == {agent.process.pid}
        shown = command(tmp_path, "nodes", "--scheduler", mesh.address, "--json").stdout.splitlines()
        assert sorted(json.loads(line)["compute_target"] for line in shown) == ["", "gpu"]
        target = client.compute_targets.get("gpu")
        assert (target.joined_nodes, target.vm_size, target.state) == (1, "large", "STEADY")
        agent.end()
        client.compute_targets.delete("gpu")


def test_an_agent_of_what_is_no_target_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    refused = command(tmp_path, "agent", "--scheduler", mesh.address, "--compute-target", "no name")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'no name' is no name of a compute target" in refused.stderr


def test_wrong_targets_are_refused_in_one_sentence(mesh: Mesh, tmp_path: Path) -> None:
    with Client(mesh.address) as client:
        targets = client.compute_targets
        with pytest.raises(NoSupervisor, match="Nobody here can start the agents of the local compute target cpu; use"):
            targets.create(CPU)
        with pytest.raises(BadName, match="'1st' is no name of a compute target; use 1 to 24 letters"):
            targets.create(ComputeTarget("1st", kind="joined"))
        with pytest.raises(SpecRefused, match="min_nodes is 3; it must be at most max_nodes, which is 2"):
            targets.create(ComputeTarget("cpu", kind="joined", min_nodes=3, max_nodes=2))
        with pytest.raises(SpecRefused, match="max_nodes is 0; it must be from 1"):
            targets.create(ComputeTarget("cpu", kind="joined", max_nodes=0))
        with pytest.raises(SpecRefused, match="kind is 'cloud'; it must be local or joined"):
            targets.create(ComputeTarget("cpu", kind="cloud"))
        targets.create(ComputeTarget("kept", kind="joined"))
        with pytest.raises(SpecRefused, match="kept is a joined one; delete it first, or choose another name"):
            targets.create(ComputeTarget("kept"))
        targets.delete("kept")
        with pytest.raises(NoComputeTarget):
            targets.delete("kept")
        write_files(tmp_path / "in", 1)
        script = write_script(tmp_path, GATED)
        with pytest.raises(NoComputeTarget, match="There is no compute target 'nowhere'"):
            run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", compute_target="nowhere")
