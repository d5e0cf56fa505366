"""Many small images, decoded and classified: by the mesh, by two processes by hand, and by others.

mesh:     SubmitJob ─▶ list, plan, dispatch, run(), segments, outcomes, commit ─▶ one file in order
by hand:  sorted os.scandir of each folder ─▶ multiprocessing.Pool.imap in lumps ─▶ the parent writes one file
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from measured import Claim, Measured, Round, check, interleaved, ratios
from mesh import Mesh
from peers import given as inputs
from PIL import Image

sys.path.append(str(Path(__file__).parent / "scripts"))
import classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from peer import Peer
    from place import Place

SCRIPT = Path(classify.__file__)
#: What each is called, and the part of the images that it gets; rates are compared.
PEERS = {"by_hand": ("by hand", 1), "ray_data": ("Ray Data", 1 / 10)}


def make(folder: Path, count: int) -> None:
    """Grey images of 28 x 28, whole folders of a thousand, and beside them what the script has to say of each."""
    random = np.random.default_rng(0)
    classify.init()
    paths = inputs.paths(str(folder / "images"), count)
    lines = []
    for at in range(0, count, inputs.FOLDER):
        some = paths[at : at + inputs.FOLDER]
        Path(some[0]).parent.mkdir(parents=True)
        for path in some:
            coarse = random.integers(0, 256, (7, 7), dtype=np.uint8)
            Image.fromarray(coarse.repeat(4, 0).repeat(4, 1)).save(path, "PNG")
        for first in range(0, len(some), inputs.SIZE):
            lines += classify.run(some[first : first + inputs.SIZE])
    (folder / "expected.txt").write_text("".join(f"{line}\n" for line in lines))


def measure(place: Place, images: int) -> Measured:
    """Mesh and others in turn, warm, each checked to have classified each image; those that make one file, in order."""
    made = place.made(f"images-{images}", partial(make, count=images))
    with Mesh(place.folder / "mesh", place.workers) as mesh:
        ways: dict[str, Callable[[], Round]] = {"batchmesh": _through(mesh, place, made, images)}
        for name, (title, part) in PEERS.items():
            if name in place.peers:
                ways[title] = partial(_by, place.peers[name], place, made, max(int(images * part), inputs.FOLDER))
        return interleaved(ways, place.rounds)


def claims(measured: Measured) -> list[Claim]:
    """Target 3: files."""
    times = ratios(measured["by hand"], measured["batchmesh"])
    target = "small images: time over that of two processes by hand"
    return [Claim(target, times, 1.25, at_least=False, against="by hand")]


def _through(mesh: Mesh, place: Place, made: Path, images: int) -> Callable[[], Round]:
    output, expected = place.folder / "files_output", (made / "expected.txt").read_text()
    settings = {"mini_batch_size": inputs.SIZE, "process_count_per_node": place.workers}
    mesh.run(SCRIPT, made / "images" / "0000", output, **settings)

    def work() -> Round:
        done, text = mesh.timed(images, SCRIPT, made / "images", output, **settings)
        check(text.read_text() == expected, "the mesh's output differs")
        return done

    return work


def _by(peer: Peer, place: Place, made: Path, images: int) -> Round:
    expected = (made / "expected.txt").read_text().splitlines(keepends=True)[:images]

    def right(output: Path) -> None:
        check(sorted(_lines(output)) == expected, f"the output of {peer.name} differs")

    given = {"images": str(made / "images"), "folders": images // inputs.FOLDER, "workers": place.workers}
    return peer.round(right, images, "files", **given)


def _lines(output: Path) -> list[str]:
    """Of one file, or of JSON lines of part files."""
    if output.is_file():
        return output.read_text().splitlines(keepends=True)
    parts = (line for part in output.iterdir() for line in part.read_text().splitlines())
    return [f"{json.loads(line)['line']}\n" for line in parts]
