"""Planning: how soon a job over very many small files begins, and whether it keeps its rate to the end.

submitted ─▶ list, plan ─▶ first run() ┄┄ a tenth of the mini-batches ┄┄ … ┄┄ the last tenth ─▶ SUCCEEDED
             (the same files once in folders of a thousand, once all in one folder; beside that a bare, sorted scandir)
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from measured import Claim, Measured, Round, Spread, check, interleaved
from mesh import Mesh
from no_op import make_files
from peers import given as inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from place import Place

SCRIPT = Path(__file__).parent / "scripts" / "when.py"
#: What the ways are called; of each layout also its first tenth and its last.
FOLDERS, FLAT, BARE = "in folders of 1,000", "in one folder", "bare scandir of one folder"
FIRST, LAST = "{}, first tenth", "{}, last tenth"


def make_flat(folder: Path, count: int) -> None:
    """Creates `count` empty files in one folder, which is in `folder`."""
    flat = folder / "0000"
    flat.mkdir(parents=True)
    for number in range(count):
        os.mknod(flat / f"{number:07}")


def measure(place: Place, files: int) -> Measured:
    """Rounds of a layout say when its first run() began after SubmitJob; those of its tenths, how fast these went."""
    folders = place.made(f"files-{files}", partial(make_files, count=files))
    flat = place.made(f"flat-{files}", partial(make_flat, count=files)) / "0000"
    tenths: Measured = {}
    with Mesh(place.folder / "planning", place.workers) as mesh:
        mesh.run(SCRIPT, folders / "0000", place.folder / "planned", process_count_per_node=place.workers)
        ways = {
            FOLDERS: _through(mesh, place, FOLDERS, folders, files, tenths),
            FLAT: _through(mesh, place, FLAT, flat, files, tenths),
            BARE: partial(_bare, flat, files),
        }
        return {**interleaved(ways, place.rounds), **tenths}


def claims(measured: Measured) -> list[Claim]:
    """Target 5."""
    first = Spread.of([each.seconds for each in measured[FOLDERS]])
    late = zip(measured[FLAT], measured[BARE], strict=True)
    behind = Spread.of([each.seconds - bare.seconds for each, bare in late])
    peak = Spread.of([each.peaks["scheduler"] / 2**20 for each in (*measured[FOLDERS], *measured[FLAT])])
    found = [
        Claim(f"files {FOLDERS}: the first run() after SubmitJob", first, 1, at_least=False, unit="s"),
        Claim(f"files {FLAT}: the first run() after a bare scandir's time", behind, 1, at_least=False, unit="s"),
        Claim("the scheduler's memory while it plans", peak, 300, at_least=False, unit="MiB"),
    ]
    for layout in (FOLDERS, FLAT):
        pairs = zip(measured[LAST.format(layout)], measured[FIRST.format(layout)], strict=True)
        kept = Spread.of([last.rate / first.rate for last, first in pairs])
        found.append(Claim(f"files {layout}: the last tenth's rate over the first's", kept, 0.8))
    return found


def _through(mesh: Mesh, place: Place, name: str, folder: Path, files: int, tenths: Measured) -> Callable[[], Round]:
    def work() -> Round:
        settings = {"mini_batch_size": inputs.SIZE, "process_count_per_node": place.workers}
        submitted = time.time()
        done, text = mesh.timed(files // inputs.SIZE, SCRIPT, folder, place.folder / "planned", **settings)
        lines = text.read_text().splitlines()
        check([line.partition(" ")[2] for line in lines] == [f"{each:07}" for each in range(files)], "names are lost")
        begun = sorted(float(line.partition(" ")[0]) for line in lines[:: inputs.SIZE])
        tenth = len(begun) // 10
        for each, ran in ((FIRST, begun[: tenth + 1]), (LAST, begun[-tenth - 1 :])):
            tenths.setdefault(each.format(name), []).append(Round(ran[-1] - ran[0], tenth))
        return Round(begun[0] - submitted, 1, done.cpu, done.peaks, done.peak)

    return work


def _bare(folder: Path, files: int) -> Round:
    begin = time.perf_counter()
    with os.scandir(folder) as entries:
        names = sorted(each.name for each in entries)
    seconds = time.perf_counter() - begin
    check(len(names) == files, "a file is lost")
    return Round(seconds, 1)
