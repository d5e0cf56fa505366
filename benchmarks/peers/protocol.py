"""How the benchmark and a peer talk: a peer is one process, which does one workload in one way.

benchmark ──{"workload": …, "workers": …} (argument)──▶ peer: prepares, warms up ──{"versions": …}──▶ benchmark
          ──"round" (a line)──▶ works ──{"seconds": …}──▶ …  until the end of its standard input

What it gives lies at `output` then, and the benchmark checks it. Standard library alone: peers run in environments of
their own.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    #: What is timed. Lines that it returns are written to `output` after the clock has stopped.
    Round = Callable[[], Iterable[str] | None]

_PR_SET_CHILD_SUBREAPER = 36


def serve(packages: list[str], **workloads: Callable[[Any], AbstractContextManager[Round]]) -> None:
    """Prepares the workload that the arguments name, and runs its rounds. `packages`: those whose versions matter."""
    # What a peer starts in the background stays below it, where its CPU time and memory are seen.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    given = json.loads(sys.argv[1])
    _clear(Path(given["output"]))
    with workloads[given["workload"]](given) as work:
        print(json.dumps({"versions": {name: version(name) for name in packages}}), file=told)
        for _ in sys.stdin:
            print(json.dumps({"seconds": _timed(work, Path(given["output"]))}), file=told)


def _timed(work: Round, output: Path) -> float:
    """Seconds of one round, into an output that was not there before."""
    _clear(output)
    begin = time.perf_counter()
    lines = work()
    seconds = time.perf_counter() - begin
    if lines is not None:
        output.write_text("".join(f"{line}\n" for line in lines))
    return seconds


def _clear(output: Path) -> None:
    if output.is_dir():
        shutil.rmtree(output)
    output.unlink(missing_ok=True)
