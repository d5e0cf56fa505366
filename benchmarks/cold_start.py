"""Starts: what four mini-batches take where nothing runs yet, and on a mesh that stands.

cold:  batchmesh run ─▶ supervisor, services, workers ─▶ job ─▶ output ─▶ the command has ended
warm:  SubmitJob ─▶ job ─▶ SUCCEEDED, at an open client of a standing mesh whose workers are warm
peer:  a whole script ─▶ its workers ─▶ output ─▶ the script has ended
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from measured import Claim, Failed, Measured, Round, Spread, check, interleaved, ratios
from mesh import Mesh
from no_op import make_files
from peer import surroundings
from peers import given as inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from place import Place

_HERE = Path(__file__).parent
COLD_FILES, COLD_TABLE = "batchmesh run, files", "batchmesh run, CSV"
WARM_FILES, WARM_TABLE = "SubmitJob, files", "SubmitJob, CSV"
RAY, POOL = "Ray Data, files", "ProcessPoolExecutor, files"
#: The script of each peer below peers/, and which peer's interpreter runs it.
_PEERS = {RAY: ("ray_data_script.py", "ray_data"), POOL: ("pool_script.py", "process_pool")}
#: Rows of a mini-batch of the table.
_ROWS = 1000
#: Seconds that a script may take.
_LIMIT = 120.0


class _Work(NamedTuple):
    """The same mini-batches for all ways: an entry script, an input, what a mini-batch is, and the output's text."""

    script: Path
    given: Path
    mini_batch_size: str
    file_name: str
    expected: str


def measure(place: Place, mini_batches: int) -> Measured:
    """All ways in turn after one round that does not count; each round's output is compared with what it has to be."""
    files, table = _files(place, mini_batches), _table(place, mini_batches)
    # A mesh each: the workers of one would make room for those of the other.
    folder = place.folder
    with Mesh(folder / "for_files", place.workers) as of_files, Mesh(folder / "for_table", place.workers) as of_table:
        ways: dict[str, Callable[[], Round]] = {
            COLD_FILES: partial(_cold, place, files, mini_batches),
            COLD_TABLE: partial(_cold, place, table, mini_batches),
            WARM_FILES: partial(_warm, of_files, place, files, mini_batches),
            WARM_TABLE: partial(_warm, of_table, place, table, mini_batches),
        }
        for name, (script, peer) in _PEERS.items():
            if peer in place.peers:
                ways[name] = partial(_by, place.peers[peer].python, script, place, files, mini_batches)
        counted = interleaved(ways, place.rounds + 1)
    return {name: rounds[1:] for name, rounds in counted.items()}


def claims(measured: Measured) -> list[Claim]:
    """Target 4."""
    found = [_at_most(f"four mini-batches by {name}", measured[name], 1.5, "s") for name in (COLD_FILES, COLD_TABLE)]
    found += [
        _at_most(f"four mini-batches by {name} to SUCCEEDED", measured[name], 100, "ms", 1000)
        for name in (WARM_FILES, WARM_TABLE)
    ]
    if rounds := measured.get(RAY):
        spread = ratios(measured[COLD_FILES], rounds)
        found.append(Claim("four mini-batches from nothing: times as fast as Ray Data", spread, 5, against=RAY))
    return found


def _at_most(target: str, rounds: list[Round], bound: float, unit: str, factor: float = 1) -> Claim:
    spread = Spread.of([factor * each.seconds for each in rounds])
    return Claim(target, spread, bound, at_least=False, unit=unit)


def _files(place: Place, mini_batches: int) -> _Work:
    count = mini_batches * inputs.SIZE
    folder = place.made(f"files-{count}", partial(make_files, count=count)) / "0000"
    script = _alone(place, "no_op.py")
    return _Work(script, folder, str(inputs.SIZE), "names.txt", "".join(f"{number:07}\n" for number in range(count)))


def _table(place: Place, mini_batches: int) -> _Work:
    rows = range(mini_batches * _ROWS)
    path = place.folder / "table.csv"
    path.write_text("id,price,quantity\n" + "".join(f"{row},{row % 97},{row % 7}\n" for row in rows))
    expected = "id,total\n" + "".join(f"{row},{row % 97 * (row % 7)}\n" for row in rows)
    return _Work(_alone(place, "two_columns.py"), path, f"{_ROWS} rows", "totals.csv", expected)


def _alone(place: Place, name: str) -> Path:
    """A script in a folder of its own, as users have it: the folder goes along with the job."""
    folder = place.folder / name.removesuffix(".py")
    folder.mkdir()
    return Path(shutil.copy(_HERE / "scripts" / name, folder))


def _cold(place: Place, work: _Work, mini_batches: int) -> Round:
    home, output = place.folder / "home", place.folder / "cold"
    shutil.rmtree(output, ignore_errors=True)
    command = (
        *(sys.executable, "-m", "batchmesh.cli", "run", work.script, "--input", work.given, "--output", output),
        *("--home", home, "--mini-batch-size", work.mini_batch_size, "--append-row-file-name", work.file_name),
        *("--process-count-per-node", place.workers),
    )
    seconds = _seconds(command, home.with_suffix(".log"))
    check((output / work.file_name).read_text() == work.expected, "the output of batchmesh run differs")
    _until_over(home)
    return Round(seconds, mini_batches)


def _until_over(home: Path) -> None:
    """The mesh of that home has ended: the next command finds none, and has the machine for itself."""
    with (home / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def _warm(mesh: Mesh, place: Place, work: _Work, mini_batches: int) -> Round:
    output = place.folder / "warm"
    done, text = mesh.timed(
        mini_batches,
        work.script,
        work.given,
        output,
        mini_batch_size=work.mini_batch_size,
        append_row_file_name=work.file_name,
        process_count_per_node=place.workers,
    )
    check(text.read_text() == work.expected, "the output of the standing mesh differs")
    return done


def _by(python: Path, script: str, place: Place, work: _Work, mini_batches: int) -> Round:
    output = place.folder / "by.txt"
    output.unlink(missing_ok=True)
    arguments = (work.given, output, inputs.SIZE, place.workers)
    seconds = _seconds((python, _HERE / "peers" / script, *arguments), output.with_suffix(".log"))
    check("".join(sorted(output.read_text().splitlines(keepends=True))) == work.expected, f"{script} lost a name")
    return Round(seconds, mini_batches)


def _seconds(command: Iterable[object], log: Path) -> float:
    """From the start of a command to its end. Raises Failed for one that fails. Compiled modules are kept, as pip and
    any interpreter that was not told otherwise do."""
    variables = surroundings(log.parent, Path(sys.executable))
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    with log.open("wb") as file:
        begin = time.perf_counter()
        ended = subprocess.run(
            list(map(str, command)), stdout=file, stderr=file, env=variables, timeout=_LIMIT, check=False
        )
        seconds = time.perf_counter() - begin
    if ended.returncode:
        raise Failed(f"{log.read_text(errors='replace').strip()[-300:]}")
    return seconds
