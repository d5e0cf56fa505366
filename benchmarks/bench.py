"""What `make bench` and `make bench-peers` run: the whole mesh beside others, on this machine, in the same minutes."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import machine
import picture
import record
import report
from place import THEIRS, Place, peers
from record import Record
from workloads import WORKLOADS

_HERE = Path(__file__).parent
_PEERS_PYTHON = _HERE.parent / ".venv-peers" / "bin" / "python"


def parse() -> argparse.Namespace:
    """What is measured, how large and how often."""
    parser = argparse.ArgumentParser(prog="benchmarks/bench.py", description=__doc__)
    names = ", ".join(WORKLOADS)
    parser.add_argument("--only", type=_listed, default=list(WORKLOADS), help=f"workloads, of: {names} [all]")
    parser.add_argument("--peers", type=_listed, default=[], help=f"all, or of: {', '.join(THEIRS)} [none]")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each way, in turn [3]")
    parser.add_argument("--workers", type=int, default=2, help="worker processes, on each side [2]")
    parser.add_argument("--full", action="store_true", help="the sizes of the targets, instead of small ones")
    parser.add_argument("--size", action="append", default=[], metavar="WORKLOAD=N", help="another size; repeatable")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FOLDER",
        help="where results.json, RESULTS.md and ratios.svg are brought up to date",
    )
    given = parser.parse_args()
    given.peers = list(THEIRS) if given.peers == ["all"] else given.peers
    for word, known in (("only", WORKLOADS), ("peers", THEIRS)):
        if unknown := set(getattr(given, word)) - set(known):
            parser.error(f"--{word}: there is no {', '.join(unknown)}, but {', '.join(known)}")
    if given.peers and not _PEERS_PYTHON.exists():
        parser.error("the peers' environment is missing: make bench-peers makes it")
    return given


def main() -> int:
    """Prints a table for each workload as soon as it is done; returns the exit status."""
    given = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # leaves no process and no folder behind
    sizes = _sizes(given)
    command = " ".join([".venv/bin/python", "benchmarks/bench.py", *sys.argv[1:]])
    records = {}
    with tempfile.TemporaryDirectory(prefix="bm-") as name:
        taking_part = peers(Path(name), machine.able(given.peers), _PEERS_PYTHON)
        print(machine.described(), flush=True)
        for each in given.only:
            place = Place(Path(name) / each, _HERE.parent / ".bench-inputs", given.workers, given.rounds, taking_part)
            measured = WORKLOADS[each].run(place, sizes[each])
            versions = {name: version for peer in given.peers for name, version in taking_part[peer].versions.items()}
            day = datetime.now(tz=UTC).date().isoformat()
            records[each] = Record(sizes[each], command, day, machine.described(), versions, measured)
            print(f"\n{report.workload(WORKLOADS[each].result(records[each]))}", flush=True)
            if given.write:
                _write(given.write, records)
    results = [WORKLOADS[name].result(each) for name, each in records.items()]
    print(f"\n{report.targets(results)}")
    return 0


def _listed(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def _sizes(given: argparse.Namespace) -> dict[str, int]:
    sizes = {name: each.full if given.full else each.small for name, each in WORKLOADS.items()}
    return sizes | {name: int(size) for name, _, size in (each.partition("=") for each in given.size)}


def _write(folder: Path, records: dict[str, Record]) -> None:
    """What has been measured now takes the place of what was measured before."""
    known = record.load(folder / "results.json") | records
    kept = {name: known[name] for name in WORKLOADS if name in known}
    results = [workload.result(kept[name]) for name, workload in WORKLOADS.items() if name in kept]
    record.save(folder / "results.json", kept)
    (folder / "RESULTS.md").write_text(report.document(results))
    (folder / "ratios.svg").write_text(picture.svg(results))


if __name__ == "__main__":
    sys.exit(main())
