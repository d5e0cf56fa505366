"""Scale: what a scheduler does with 10, 100 and 1,000 nodes, and how its memory grows with the mini-batches of a job.

SubmitJob ─▶ scheduler ◀══ a stream and a connection for each node ══▶ simulated agents, all in one process
             storage (real: reserves the output, writes the report; no mini-batch gives a row, so there is no segment)
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from measured import Claim, Measured, Round, Spread, check, interleaved
from mesh import Mesh
from no_op import SCRIPT, make_files

if TYPE_CHECKING:
    from place import Place

NODES = (10, 100, 1000)
WAY = "{:,} nodes"
#: Seconds for all nodes to join.
_JOINED_WITHIN = 60.0


class SimulatedMesh(Mesh):
    """A real scheduler and a real storage, and nodes that answer each mini-batch at once."""

    def __init__(self, folder: Path, nodes: int) -> None:
        super().__init__(folder, 0)
        self._nodes = nodes

    def _start_agents(self, scheduler: str) -> None:
        program = (str(Path(__file__).parent / "simulated_agents.py"),)
        self._start("agent", "--scheduler", scheduler, "--nodes", str(self._nodes), program=program)

    def joined(self) -> None:
        """Returns once the scheduler knows all nodes."""
        deadline = time.monotonic() + _JOINED_WITHIN
        while len(self.client.nodes()) < self._nodes:
            check(time.monotonic() < deadline, "not all nodes have joined")
            time.sleep(0.1)


def measure(place: Place, mini_batches: int) -> Measured:
    """Rounds of a job of `mini_batches` of one file each, by the number of nodes."""
    folder = place.made(f"files-{mini_batches}", partial(make_files, count=mini_batches))
    with ExitStack() as stack:
        meshes = {
            WAY.format(nodes): stack.enter_context(SimulatedMesh(place.folder / f"scale-{nodes}", nodes))
            for nodes in NODES
        }
        for mesh in meshes.values():
            mesh.joined()
        return interleaved(
            {name: partial(_through, mesh, place, folder, mini_batches) for name, mesh in meshes.items()}, place.rounds
        )


def claims(measured: Measured) -> list[Claim]:
    """Target 6."""
    rates = {name: Spread.of([each.rate for each in rounds]) for name, rounds in measured.items()}
    found = [Claim(f"mini-batches a second with {name}", rates[name], 3000) for name in measured]
    most = measured[WAY.format(NODES[-1])]
    # One scheduler ran all rounds: what it keeps of jobs that have ended would add up. The first one fills its caches.
    before = most[min(1, len(most) - 1)].peaks["scheduler"]
    grown = Spread.of([each.peaks["scheduler"] / before for each in most[1:] or most])
    return [*found, Claim("the scheduler's memory, over that of an earlier round", grown, 1.2, at_least=False)]


def _through(mesh: SimulatedMesh, place: Place, folder: Path, mini_batches: int) -> Round:
    with mesh.watch() as watch:
        begin = time.perf_counter()
        output = place.folder / "scaled"
        job = mesh.run(SCRIPT, folder, output, mini_batch_size=1, output_action="summary_only")
        seconds = time.perf_counter() - begin
    check(job.progress.succeeded_items == mini_batches, "not every mini-batch has succeeded once")
    return Round(seconds, mini_batches, watch.cpu, watch.peaks, watch.peak)
