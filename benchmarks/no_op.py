"""No-op mini-batches: how many a second go through the whole mesh, and through a bare process pool.

mesh:  SubmitJob ─▶ list, plan, dispatch, run(), segments, outcomes, commit ─▶ SUCCEEDED   (all durable)
bare:  ProcessPoolExecutor.submit, one by one ─▶ results in memory
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from measured import Round, check, interleaved

if TYPE_CHECKING:
    from mesh import Mesh

SCRIPT = Path(__file__).parent / "scripts" / "no_op.py"
#: Paths in each mini-batch, and files in each folder of the input.
SIZE, FOLDER = 10, 1000


def run(mini_batch: list[str]) -> list[str]:
    """What scripts/no_op.py does."""
    return [path.rpartition("/")[2] for path in mini_batch]


def make_files(folder: Path, count: int) -> list[str]:
    """Creates `count` empty files in folders of a thousand; their paths in the order of a job."""
    paths = [folder / f"{number // FOLDER:04}" / f"{number:07}" for number in range(count)]
    for number, path in enumerate(paths):
        if number % FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.touch()
    return list(map(str, paths))


def measure(mesh: Mesh, folder: Path, mini_batches: int, workers: int, rounds: int) -> dict[str, list[Round]]:
    """Mesh and bare pool in turn, both warm, each checked to have given every name once and in order."""
    paths = make_files(folder / "files", mini_batches * SIZE)
    given = [paths[at : at + SIZE] for at in range(0, len(paths), SIZE)]
    names = [path.rpartition("/")[2] for path in paths]
    output = folder / "output"
    settings = {"mini_batch_size": SIZE, "process_count_per_node": workers}
    with ProcessPoolExecutor(workers) as pool:

        def bare() -> Round:
            begin = time.perf_counter()
            futures = [pool.submit(run, mini_batch) for mini_batch in given]
            results = [name for future in futures for name in future.result()]
            seconds = time.perf_counter() - begin
            check(results == names, "the bare pool lost a name")
            return Round(seconds, mini_batches)

        def through_mesh() -> Round:
            before, begin = mesh.cpu_seconds(), time.perf_counter()
            job = mesh.run(SCRIPT, folder / "files", output, **settings)
            seconds, after = time.perf_counter() - begin, mesh.cpu_seconds()
            check(Path(job.output_path).read_text().splitlines() == names, "the mesh's output differs")
            return Round(seconds, mini_batches, {name: after[name] - before[name] for name in after})

        list(pool.map(run, given[:100]))
        mesh.run(SCRIPT, folder / "files" / "0000", output, **settings)
        return interleaved({"mesh": through_mesh, "bare pool": bare}, rounds)
