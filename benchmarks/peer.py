"""One way of doing a workload, in a process of its own that ends after its round: a peer, or the work done by hand.

start ─▶ it prepares and warms up ─▶ "round" ─▶ seconds; meanwhile all its processes are watched ─▶ check ─▶ end
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measured import Failed, Round
from process_table import below, processes
from watching import Watch, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HERE = Path(__file__).parent
#: Seconds to get ready, for a round, and to end.
_LIMIT = 900.0


def surroundings(folder: Path, python: Path) -> dict[str, str]:
    """Environment variables: no telemetry, what a peer keeps lies in `folder`, the entry scripts can be imported."""
    folders = dict.fromkeys(("HOME", "TMPDIR", "RAY_TMPDIR", "SPARK_LOCAL_DIRS"), str(folder))
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "DO_NOT_TRACK": "1"}
    paths = {"PYTHONPATH": f"{_HERE / 'peers'}:{_HERE / 'scripts'}", "PYSPARK_PYTHON": str(python)}
    return {**os.environ, **folders, **quiet, **paths}


@dataclass(frozen=True)
class Peer:
    """How to start one: the interpreter, the file below peers/, and the folder of its output and log."""

    python: Path
    name: str
    folder: Path
    #: What the last one said of the versions of its packages.
    versions: dict[str, str] = field(default_factory=dict)

    def round(self, check: Callable[[Path], None], count: int, workload: str, **given: Any) -> Round:
        """One round over `count` things, whose output `check` has found right. Raises Failed."""
        output = self.folder / "output" / self.name
        output.parent.mkdir(parents=True, exist_ok=True)
        with self._started({"workload": workload, "output": str(output), **given}) as process:
            self.versions.update(self._answer(process)["versions"])
            with Watch(partial(whole, process.pid)) as watch:
                process.stdin.write(b"round\n")
                seconds = self._answer(process)["seconds"]
            check(output)
        return Round(seconds, count, watch.cpu, watch.peaks, watch.peak)

    @contextmanager
    def _started(self, given: dict[str, Any]) -> Iterator[Any]:
        """Its process; at the end nothing of it is left."""
        command = [str(self.python), str(_HERE / "peers" / f"{self.name}.py"), json.dumps(given)]
        environment = surroundings(self.folder, self.python)
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0, env=environment
            )
        with process:
            try:
                yield process
            finally:
                started = [each.pid for each in below(process.pid, processes())]
                process.stdin.close()  # type: ignore[union-attr]
                with suppress(subprocess.TimeoutExpired):
                    process.wait(30)
                process.kill()
                for pid in started:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def _answer(self, process: Any) -> dict[str, Any]:
        """Its next line."""
        readable, _, _ = select.select([process.stdout], [], [], _LIMIT)
        line = process.stdout.readline() if readable else b""
        if not line:
            last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise Failed(f"{self.name} gave no answer: {last} (its log: {self._log})")
        return dict(json.loads(line))

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"
