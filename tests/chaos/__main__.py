"""`python -m tests.chaos --seed S --faults N`: a real mesh, real jobs, and N faults drawn at random by the seed."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from .mesh import ChaosMesh, into_own_mounts, missing
from .trial import Trial


def main() -> int:
    """Returns the exit status: 0 when every promise held."""
    given = _parser().parse_args()
    into_own_mounts()
    left_out = missing()
    for kind, needs in left_out.items():
        _say(f"left out: {kind.value}; it takes {needs}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    repeat = f"make chaos SEED={given.seed} FAULTS={given.faults}"
    _say(f"seed {given.seed}, {given.faults} faults; to repeat: {repeat}")
    begun = time.monotonic()
    try:
        with ChaosMesh(folder, without=frozenset(left_out)) as mesh:
            trial = Trial(mesh, given.seed, given.faults, given.seconds, lambda line: _say(line, begun))
            summary = trial.run()
    except Exception as error:  # noqa: BLE001 whatever it was, the way to see it again stands at the end
        _say(f"{type(error).__name__}: {error}", begun)
        _say(f"FAILED; files are left in {folder}; to repeat: {repeat}")
        return 1
    shutil.rmtree(folder)
    sys.stdout.write("\n" + summary.table())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: a random one")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=12.0, help="work of one job, about")
    return parser


def _say(line: str, begun: float | None = None) -> None:
    at = f"{time.monotonic() - begun:7.2f} s  " if begun is not None else ""
    sys.stdout.write(f"{at}{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
