"""One bad item among ten thousand, whatever it does to its worker or its node: the rows of all others are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.counted import Counted
from tests.support.mesh import Mesh
from tests.support.story import adds_up, failed_items, lines, run_job, succeeded, write_script
from tests.support.wired_mesh import WiredMesh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Of each kind of poison: what it does, the kind of failure that this is, and a part of the sentence that says so.
DEATHS = {
    "raises": ('raise ValueError("poison")', "RUN_RAISED", "ValueError: poison"),
    "hangs": ("time.sleep(600)", "RUN_TIMEOUT", "2 s"),
    "segfaults": ("ctypes.string_at(0)", "WORKER_CRASHED", "SIGSEGV"),
    "exits": ("os._exit(3)", "WORKER_CRASHED", "exit status 3"),
    "eats memory": ("eat()", "OUT_OF_MEMORY", "--worker-memory"),
}
SUFFER = """
    import ctypes

    def eat():
        held = []
        while True:
            held.append(bytes([1]) * 4_000_000)
            time.sleep(0.005)

    def suffer(mini_batch):
        time.sleep(0.002)  # what takes less than a millisecond is told with others, and lost with its worker
        if any(path.endswith("item-04321.txt") for path in mini_batch):
            DEATH
"""
TABLE = """
    import ctypes

    def run(table):
        if (table.number == 4321).any():
            ctypes.string_at(0)
        return [f"{number} {2 * number}" for number in table.number]
"""
#: Runs that the search for a bad item among 100 may take: 4 x ceil(log2 100).
BUDGET = 28


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Mesh(tmp_path_factory.mktemp("mesh"), agent_options=("--worker-memory", "400MB")) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten thousand files."""
    return Counted(tmp_path_factory.mktemp("items"), 10_000).inputs


@pytest.mark.parametrize("death", DEATHS)
def test_one_poison_file_among_10000_costs_its_own_row_and_no_other(
    mesh: Mesh, inputs: Path, tmp_path: Path, death: str
) -> None:
    code, kind, sentence = DEATHS[death]
    story = Counted(tmp_path, suffer=SUFFER.replace("DEATH", code), inputs=inputs)
    poison = story.paths[4321]
    timeout = 2 if death == "hangs" else 60
    job = story.run(mesh.address, mini_batch_size=100, error_threshold=1, run_invocation_timeout=timeout, run_max_try=1)
    story.is_right(job, without=frozenset({poison.name}))
    (line,) = failed_items(job)
    assert (line["item"], line["kind"], line["count"]) == (str(poison), kind, 1)
    assert sentence in line["error"]
    runs = story.runs()
    searched = [runs.pop(names) for names in list(runs) if names.startswith("item-043")]
    assert 1 < sum(searched) <= 1 + BUDGET
    assert len(runs) == runs.total() == 99, "no other mini-batch is run twice"


def test_one_poison_row_among_10000_of_a_table_costs_its_own_row_and_no_other(mesh: Mesh, tmp_path: Path) -> None:
    table = tmp_path / "in.csv"
    table.write_text("number\n" + "".join(f"{number}\n" for number in range(10_000)))
    job = run_job(
        mesh.address,
        write_script(tmp_path, TABLE),
        table,
        tmp_path / "out",
        mini_batch_size="100 rows",
        error_threshold=1,
        run_max_try=1,
    )
    assert lines(succeeded(job)) == [f"{number} {2 * number}" for number in range(10_000) if number != 4321]
    (line,) = failed_items(job)
    assert (line["item"]["file"], line["item"]["row"], line["kind"]) == (str(table), 4322, "WORKER_CRASHED")
    adds_up(job)


def test_an_item_that_ends_its_node_fails_after_three_losses_and_its_tries(tmp_path: Path) -> None:
    suffer = """
        import signal
        from batchmesh import Client

        def alone(mesh):
            return mesh.get("ends-nodes").progress.running_mini_batches <= 1

        def suffer(mini_batch):
            if mini_batch[0].endswith("item-00005.txt"):
                with Client(os.environ["MESH"]) as mesh:
                    while not alone(mesh):  # what ran beside it is done and told by then
                        time.sleep(0.05)
                os.kill(os.getppid(), signal.SIGKILL)
    """
    (tmp_path / "mesh").mkdir()
    with WiredMesh(tmp_path / "mesh", agents=2) as mesh:
        story = Counted(tmp_path / "job", 12, suffer, MESH=mesh.address)
        poison = story.paths[5]
        follower = story.follow(mesh.address, "ends-nodes", error_threshold=1, run_max_try=2)
        while not follower.done.wait(0.1):
            for name in ("agent0", "agent1"):
                if not mesh.parts[name].alive:
                    mesh.restart(name)
        assert follower.error is None
        story.is_right(follower.job, without=frozenset({poison.name}))
    (line,) = failed_items(follower.job)
    assert (line["item"], line["kind"]) == (str(poison), "NODE_LOST")
    assert story.runs()[poison.name] == 3 + 2
