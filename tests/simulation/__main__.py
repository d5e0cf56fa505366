"""`python -m tests.simulation`: a long walk, for `make chaos` and for repeating what a shorter one has found."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from .violation import Violation
from .walk import Found, Walk, shrunk
from .world import Shape

#: Worlds that one process lives through at a time.
_CHUNK = 100


def main() -> int:
    options = _parse()
    how = Walk(Shape(options.nodes, options.mini_batches, options.jobs, options.faults))
    if options.worlds:
        outcome = _first(how, range(options.seed, options.seed + options.worlds))
        return _tell(outcome) if isinstance(outcome, Found) else 0
    began = time.monotonic()
    events, worlds, found = _walk(how, options.events, options.seed, options.processes)
    if found is not None:
        return _tell(found)
    sys.stdout.write(f"{events} events in {worlds} worlds from seed {options.seed} on, all invariants held, ")
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="events to pass at least (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first world (default %(default)s)")
    parser.add_argument("--worlds", type=int, default=0, help="live through so many worlds instead")
    parser.add_argument("--processes", type=int, default=2, help="processes that walk (default %(default)s)")
    shape = Shape()
    for name in ("nodes", "mini-batches", "jobs", "faults"):
        most = getattr(shape, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=most, help="of a world, at most (default %(default)s)")
    return parser.parse_args()


def _walk(how: Walk, events: int, seed: int, processes: int) -> tuple[int, int, Found | None]:
    """The first violation found ends the walk; the seeds behind it may not all have been tried."""
    passed = worlds = 0
    with ProcessPoolExecutor(processes) as pool:
        while passed < events:
            chunks = [range(seed + worlds + place * _CHUNK, seed + worlds + (place + 1) * _CHUNK) for place in range(8)]
            for result in pool.map(_first, [how] * len(chunks), chunks):
                if isinstance(result, Found):
                    return passed, worlds, result
                passed += result
            worlds += len(chunks) * _CHUNK
    return passed, worlds, None


def _first(how: Walk, seeds: range) -> int | Found:
    """The events of these worlds, or the first one that goes wrong."""
    passed = 0
    for seed in seeds:
        outcome = how.outcome(seed)
        if isinstance(outcome, Violation):
            return shrunk(seed, how, outcome)
        passed += outcome
    return passed


def _tell(found: Found) -> int:
    sys.stdout.write(f"{found}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
