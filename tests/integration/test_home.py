"""The mesh of a home, over real processes: it starts once, ends with its last client, and leaves nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batchmesh.client import Client
from batchmesh.errors import MeshUnreachable
from batchmesh.home import Home, HomeRefused, Membership
from batchmesh.job import NodeState
from tests.support.living import client_of, command, first_line, process_of, processes_of, said, started
from tests.support.story import wait_for, write_files, write_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.job import Node

SLOW = """
    import time
    def run(mini_batch):
        time.sleep(0.2)
        return mini_batch
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home; whatever the test did to it, nothing of it may be alive some seconds later."""
    path = tmp_path / "home"
    monkeypatch.setenv("BATCHMESH_HOME", str(path))
    yield path
    assert_gone(path)


def assert_gone(home: Path) -> None:
    try:
        wait_for(lambda: not processes_of(home), "the end of the home's processes", 15)
    finally:
        for pid in processes_of(home):
            os.kill(pid, signal.SIGKILL)
    assert not (home / "mesh.json").exists()
    assert not (home / "run").exists()


def test_a_client_that_is_killed_ends_the_mesh(home: Path) -> None:
    with client_of(home) as (client, _):
        assert len(processes_of(home)) >= 5, "client, supervisor and three services"
        client.kill()
        client.wait()
        assert_gone(home)
        lock = Home(home).lock()
        assert lock is not None
        lock.close()


def test_a_mesh_lives_until_its_last_client_has_gone(home: Path) -> None:
    with client_of(home) as (second, address):
        with client_of(home) as (first, same):
            assert same == address
            first.kill()
            first.wait()
        assert command(home, "jobs").returncode == 0
        assert process_of(home, "batchmesh.scheduler")
        second.kill()


def test_clients_that_race_to_start_a_mesh_share_it(home: Path) -> None:
    with ThreadPoolExecutor(5) as threads:
        clients = [client_of(home) for _ in range(5)]
        addresses = [address for _, address in threads.map(lambda each: each.__enter__(), clients)]
        try:
            assert len(set(addresses)) == 1
            assert process_of(home, "batchmesh.supervisor"), "one, and not more"
        finally:
            for each in clients:
                each.__exit__(None, None, None)


def test_clients_that_race_with_the_end_of_a_mesh_always_get_one(home: Path) -> None:
    def come_and_go(number: int) -> int:
        for _ in range(3):
            with Client(home=home) as client:
                assert client.mesh().embedded
        return number

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(come_and_go, range(2))) == [0, 1]


def test_two_homes_never_meet_not_even_a_copy(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with client_of(home):
        copy.mkdir()
        shutil.copy(home / "mesh.json", copy)
        with client_of(copy):
            pids = [json.loads((each / "mesh.json").read_text())["pid"] for each in (home, copy)]
            assert pids[0] != pids[1]
        assert_gone(copy)
        assert command(home, "jobs").returncode == 0, "the end of the copy's mesh is not the end of this one"


def test_a_home_whose_path_is_too_long_for_a_socket_works(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30) / "with a space"
    with client_of(home) as (_, address):
        folder = Path(address.removeprefix("unix:")).parent
        assert not folder.is_relative_to(home)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert_gone(home)
    assert not folder.exists()


def test_a_held_home_without_a_mesh_is_named_with_its_holder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        membership = Membership(home, patience=0.3)
        membership.begin()
        with pytest.raises(MeshUnreachable, match=rf"{tmp_path} is held by process 4711.*--home"):
            membership.scheduler()
        membership.leave()


def test_a_mesh_that_does_not_answer_is_unreachable_in_time(home: Path) -> None:
    with client_of(home):
        supervisor = process_of(home, "batchmesh.supervisor")
        os.kill(supervisor, signal.SIGSTOP)
        membership = Membership(Home(home), patience=0.5)
        membership.begin()
        begin = time.monotonic()
        with pytest.raises(MeshUnreachable, match=f"process {supervisor}"):
            membership.scheduler()
        assert time.monotonic() - begin < 5
        membership.leave()
        os.kill(supervisor, signal.SIGCONT)


@pytest.mark.parametrize("service", ["storage", "scheduler", "agent"])
def test_a_service_that_dies_is_started_again_and_clients_notice_nothing(home: Path, service: str) -> None:
    with Client(home=home) as client:
        (node,) = wait_for(client.nodes, "the agent joins", 20)
        kill_and_await(home, f"batchmesh.{service}")
        assert client.mesh().embedded
        assert list(client.list()) == []
        assert client.logs("job-none") == (), "storage answers"
        (same_or_next,) = wait_for(lambda: nodes_after(client, node.node_id, service), "one node is there", 20)
        assert same_or_next.state is NodeState.READY
        log = home / "log" / "supervisor.log"
        assert f'"event": "service_died", "name": "{service}' in log.read_text()
        wait_for(lambda: f'"event": "service_serves_again", "name": "{service}' in log.read_text(), "the log says so")


def nodes_after(client: Client, before: str, service: str) -> tuple[Node, ...]:
    """The nodes, once the one of `before` is gone if it was an agent that died, and is back if it was not."""
    found = client.nodes()
    ids = {node.node_id for node in found}
    wanted = before not in ids if service == "agent" else before in ids
    return found if wanted else ()


def kill_and_await(home: Path, module: str) -> None:
    """Kills that service and returns once another process has taken its place."""
    dead = process_of(home, module)
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: living(home, module) - {dead}, f"{module} is started again", 20)


def living(home: Path, module: str) -> set[int]:
    return {pid for pid, line in processes_of(home).items() if f"-m {module} " in line}


def test_a_command_waits_for_a_scheduler_that_is_being_started_again(home: Path) -> None:
    with client_of(home):
        os.kill(process_of(home, "batchmesh.scheduler"), signal.SIGKILL)
        listed = command(home, "jobs")
        assert (listed.returncode, listed.stderr) == (0, "")


def test_a_job_outlives_each_service_of_its_home(home: Path, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 12)
    gated = """
        import os, time
        def run(mini_batch):
            while not os.path.exists(os.environ["GATE"]):
                time.sleep(0.01)
            return mini_batch
    """
    script = write_script(tmp_path, gated)
    gate = tmp_path / "gate"
    options = ("--mini-batch-size", "1", "--environment-variable", f"GATE={gate}", "--json")
    with started(home, "run", script, "--input", tmp_path / "in", "--output", tmp_path / "out", *options) as client:
        assert client.stdout is not None
        for line in client.stdout:
            if json.loads(line)["progress"]["running_mini_batches"]:
                break
        for service in ("scheduler", "storage", "agent"):
            kill_and_await(home, f"batchmesh.{service}")
        gate.touch()
        last = json.loads(client.stdout.read().splitlines()[-1])
        assert client.wait(60) == 0
        assert "error" not in said(client).lower()
    assert last["progress"]["retried_attempts"] == 0
    assert (tmp_path / "out" / "parallel_run_step.txt").read_text().splitlines() == [str(path) for path in paths]


def test_a_service_that_dies_again_and_again_ends_the_mesh_with_its_name(home: Path) -> None:
    with Client(home=home) as client:
        client.mesh()
        (home / "state").rename(home / "state-before")
        (home / "state").write_text("no folder")
        os.kill(process_of(home, "batchmesh.scheduler"), signal.SIGKILL)

        def told() -> str:
            try:
                client.mesh()
            except MeshUnreachable as error:
                return str(error)
            return ""

        assert str(home / "state") in wait_for(told, "the client is told", 30)
        assert_gone(home)


def test_a_supervisor_that_is_killed_takes_its_services_along(home: Path) -> None:
    with client_of(home):
        os.kill(process_of(home, "batchmesh.supervisor"), signal.SIGKILL)
        wait_for(lambda: len(processes_of(home)) == 1, "only the client is left")
        assert command(home, "jobs").returncode == 0, "the next client starts anew, over what is left"


def test_a_home_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeRefused, match="--home"):
        Client(home=tmp_path / "file")


def test_the_job_of_a_killed_client_is_resumable(home: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 30)
    script = write_script(tmp_path, SLOW)
    run = ("run", script, "--input", tmp_path / "in", "--output", tmp_path / "out", "--mini-batch-size", "1", "--json")
    with started(home, *run) as client:
        assert client.stdout is not None
        for line in client.stdout:
            state = json.loads(line)
            if state["progress"]["succeeded_mini_batches"] >= 2:
                break
        client.kill()
    resumed = command(home, "resume", state["job_id"])
    assert resumed.returncode == 0, resumed.stderr
    assert len((tmp_path / "out" / "parallel_run_step.txt").read_text().splitlines()) == 30


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_cancels_the_job_and_waits(home: Path, tmp_path: Path, signum: signal.Signals) -> None:
    write_files(tmp_path / "in", 200)
    script = write_script(tmp_path, SLOW)
    run = ("run", script, "--input", tmp_path / "in", "--output", tmp_path / "out", "--mini-batch-size", "1", "--json")
    with started(home, *run) as client:
        assert json.loads(first_line(client))["state"] == "PENDING"
        client.send_signal(signum)
        assert client.stdout is not None
        assert json.loads(client.stdout.read().splitlines()[-1])["state"] == "CANCELLED"
        assert client.wait(30) == 130


def test_the_second_signal_leaves_at_once(home: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 20)
    script = write_script(tmp_path, SLOW)
    run = ("run", script, "--input", tmp_path / "in", "--output", tmp_path / "out", "--mini-batch-size", "1", "--json")
    with started(home, *run) as client:
        assert json.loads(first_line(client))["state"] == "PENDING"
        scheduler = process_of(home, "batchmesh.scheduler")
        os.kill(scheduler, signal.SIGSTOP)
        client.send_signal(signal.SIGINT)
        assert client.stderr is not None
        assert "press Ctrl-C again" in client.stderr.readline()
        client.send_signal(signal.SIGINT)
        assert client.wait(5) == 130


def test_submit_is_refused_on_an_embedded_mesh_and_names_the_remedy(home: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 1)
    script = write_script(tmp_path, SLOW)
    refused = command(home, "submit", script, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert refused.returncode == 3
    assert "batchmesh up" in refused.stderr
    assert refused.stdout == ""


def test_a_standing_mesh_serves_its_home_and_ends_when_told(home: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 3)
    script = write_script(tmp_path, SLOW)
    with started(home, "up", "--agents", "2", "--slots", "1") as up:
        address = first_line(up)
        assert address.startswith("127.0.0.1:")
        nodes = command(home, "nodes", "--json").stdout.splitlines()
        assert [json.loads(node)["state"] for node in nodes] == ["READY", "READY"]
        job_id = command(
            home, "submit", script, "--input", tmp_path / "in", "--output", tmp_path / "out"
        ).stdout.strip()
        assert command(home, "watch", job_id).returncode == 0
        with Client(address) as client:
            assert b"".join(client.read_output(job_id)).count(b"\n") == 3
        again = command(home, "up")
        assert (again.returncode, "already stands" in again.stderr) == (2, True)
        assert command(home, "up", "--listen", address, "--home", tmp_path / "other").returncode == 2
        up.send_signal(signal.SIGTERM)
        assert up.wait(15) == 0


def test_ctrl_c_in_watch_leaves_the_job_alone(home: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 15)
    script = write_script(tmp_path, SLOW)
    with started(home, "up", "--slots", "1") as up:
        first_line(up)
        options = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--mini-batch-size", "1")
        job_id = command(home, "submit", script, *options).stdout.strip()
        with started(home, "watch", job_id, "--json") as watching:
            first_line(watching)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 130
        assert command(home, "watch", job_id).returncode == 0
        up.send_signal(signal.SIGINT)
        assert up.wait(15) == 0


def test_a_service_that_cannot_start_is_told_to_the_client(home: Path) -> None:
    home.mkdir()
    (home / "state").write_text("no folder")
    told = command(home, "jobs")
    assert told.returncode == 3
    assert f"The mesh of {home} did not start" in told.stderr


def test_the_mesh_of_up_starts_a_service_again_at_its_port(home: Path) -> None:
    with started(home, "up", "--slots", "1") as up:
        address = first_line(up)
        with Client(address) as client:
            before = client.mesh()
            for service in ("scheduler", "storage"):
                kill_and_await(home, f"batchmesh.{service}")
                assert client.mesh() == before
                assert client.logs("job-none") == ()
        up.send_signal(signal.SIGTERM)
        assert up.wait(15) == 0


def test_the_mesh_of_up_ends_when_a_service_dies_again_and_again(home: Path) -> None:
    with started(home, "up") as up:
        first_line(up)
        (home / "storage").rename(home / "storage-before")
        (home / "storage").write_text("no folder")
        os.kill(process_of(home, "batchmesh.storage"), signal.SIGKILL)
        assert str(home / "storage") in said(up).splitlines()[-1]
        assert up.wait(15) == 1


def test_a_mesh_leaves_no_descendant_that_ran_away(home: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 1)
    body = """
        import subprocess
        def run(mini_batch):
            subprocess.Popen(["sleep", "600"], start_new_session=True)
            return mini_batch
    """
    script = write_script(tmp_path, body)
    done = command(home, "run", script, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr


def test_a_client_needs_no_python_path_of_its_own_folder(home: Path, tmp_path: Path) -> None:
    """A `batchmesh` folder or a `json.py` where the user stands is not what the services import."""
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "batchmesh.cli", "jobs"],
        cwd=tmp_path,
        env={**os.environ, "BATCHMESH_HOME": str(home)},
        check=False,
    )
    assert done.returncode == 0


def test_a_port_in_use_is_refused_before_anything_starts(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = command(home, "up", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert refused.returncode == 2
    assert "in use" in refused.stderr
