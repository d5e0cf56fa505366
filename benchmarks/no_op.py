"""No-op mini-batches: how many a second go through the whole mesh, and through pools and meshes of others.

mesh:  SubmitJob ─▶ list, plan, dispatch, run(), segments, outcomes, commit ─▶ SUCCEEDED   (all durable)
peer:  lists of ten paths in memory ─▶ its workers ─▶ results in memory
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from measured import Claim, Measured, Round, Spread, check, interleaved, ratios
from mesh import Mesh
from peers import given as inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from peer import Peer
    from place import Place

SCRIPT = Path(__file__).parent / "scripts" / "no_op.py"
#: The mesh whose durable steps take as long as the disk does.
PROMPT = "as the disk is"
#: What each peer is called, and the part of the mini-batches that it gets: slow ones get few, and their rate is told.
PEERS = {
    "process_pool": ("ProcessPoolExecutor", 1),
    "multiprocessing_pool": ("multiprocessing imap", 1),
    "pebble_pool": ("pebble", 1),
    "ray_actors": ("Ray actors", 1),
    "ray_data": ("Ray Data", 1 / 2),
    "dask_distributed": ("Dask", 1 / 10),
    "spark": ("Spark tasks", 1 / 50),
}


def make_files(folder: Path, count: int) -> None:
    """Creates `count` empty files in folders of a thousand."""
    for number, path in enumerate(inputs.paths(str(folder), count)):
        if number % inputs.FOLDER == 0:
            os.makedirs(os.path.dirname(path))
        os.mknod(path)


def measure(place: Place, mini_batches: int) -> Measured:
    """Mesh and peers in turn, all warm, each checked to have given every name once, the mesh in order."""
    ways: dict[str, Callable[[], Round]] = {}
    with Mesh(place.folder / "mesh", place.workers) as mesh:
        ways["batchmesh"] = _through(mesh, place, mini_batches)
        for name, (title, part) in PEERS.items():
            if name in place.peers:
                ways[title] = partial(_by, place.peers[name], place, int(mini_batches * part))
        return interleaved(ways, place.rounds)


def measure_delayed(place: Place, mini_batches: int) -> Measured:
    """Three meshes in turn: one as it is, one whose durable steps take 5 ms longer each, one 50 ms."""
    with (
        Mesh(place.folder / "0", place.workers) as prompt,
        Mesh(place.folder / "5", place.workers, 0.005) as later,
        Mesh(place.folder / "50", place.workers, 0.050) as latest,
    ):
        meshes = {PROMPT: prompt, "5 ms later": later, "50 ms later": latest}
        return interleaved({name: _through(mesh, place, mini_batches) for name, mesh in meshes.items()}, place.rounds)


def measure_one_job(place: Place, mini_batches: int) -> Measured:
    """One job of so many mini-batches, of one file each."""
    with Mesh(place.folder / "mesh", place.workers) as mesh:
        return interleaved({"batchmesh": _through(mesh, place, mini_batches, size=1)}, place.rounds)


def claims(measured: Measured) -> list[Claim]:
    """Target 1: overhead."""
    mesh = measured["batchmesh"]
    cpu = Spread.of([1e6 * sum(each.cpu.values()) / each.count for each in mesh])
    target = "no-op mini-batches: times as fast as {}"
    bounds = {"ProcessPoolExecutor": 2, "Ray actors": 6}
    found = [
        Claim(target.format(way), ratios(mesh, measured[way]), bound, against=way)
        for way, bound in bounds.items()
        if measured.get(way)
    ]
    return [*found, Claim("CPU of a no-op mini-batch, all processes", cpu, 100, at_least=False, unit="µs")]


def claims_delayed(measured: Measured) -> list[Claim]:
    """Target 1: durable steps that take long."""
    prompt, *late = measured.values()
    target = "no-op mini-batches: times as fast as with each durable step {}"
    return [
        Claim(target.format(name), ratios(prompt, rounds), 2, at_least=False)
        for name, rounds in zip(list(measured)[1:], late, strict=True)
    ]


def claims_one_job(measured: Measured) -> list[Claim]:
    """Target 6: a million mini-batches in one job."""
    rounds = measured["batchmesh"]
    memory = Spread.of([each.peaks["scheduler"] / 1e6 for each in rounds])
    return [
        Claim("mini-batches a second of one large job", Spread.of([each.rate for each in rounds]), 3000),
        Claim("the scheduler's memory in one large job", memory, 300, at_least=False, unit="MB"),
    ]


def _through(mesh: Mesh, place: Place, mini_batches: int, size: int = inputs.SIZE) -> Callable[[], Round]:
    """A round of the mesh, each behind a small one, as peers warm up before theirs."""
    count = mini_batches * size
    files = place.made(f"files-{count}", partial(make_files, count=count))
    output = place.folder / "no_op_output"
    settings = {"mini_batch_size": size, "process_count_per_node": place.workers}

    def work() -> Round:
        mesh.run(SCRIPT, files / "0000", output, **settings)
        done, text = mesh.timed(mini_batches, SCRIPT, files, output, **settings)
        check(text.read_text() == _names(count), "the mesh's output differs")
        return done

    return work


def _by(peer: Peer, place: Place, mini_batches: int) -> Round:
    """A round of a peer, whose results may come in any order."""

    def right(output: Path) -> None:
        names = "".join(sorted(output.read_text().splitlines(keepends=True)))
        check(names == _names(mini_batches * inputs.SIZE), f"{peer.name} lost a name")

    given = {"folder": str(place.inputs), "mini_batches": mini_batches, "workers": place.workers}
    return peer.round(right, mini_batches, "no_op", **given)


def _names(count: int) -> str:
    return "".join(f"{number:07}\n" for number in range(count))
