"""A job over files whose workers count their own run() calls, and what a plain loop would have written."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from tests.chaos.follower import Follower

from .story import adds_up, run_job, succeeded, write_files, write_script

if TYPE_CHECKING:
    from batchmesh.job import Job

#: Each run() begins with a line in the file RUNS, written at once: the names of its items. `row` is all that becomes of
#: an item; a story that needs more defines `suffer` anew.
SCRIPT = """
    import os, time, zlib

    def row(path):
        with open(path, "rb") as file:
            return f"{os.path.basename(path)} {zlib.crc32(file.read())}"

    def suffer(mini_batch):
        time.sleep(float(os.environ.get("SECONDS", "0")))

    def run(mini_batch):
        names = " ".join(os.path.basename(path) for path in mini_batch)
        with open(os.environ["RUNS"], "ab", buffering=0) as file:
            file.write(f"{names}\\n".encode())
        suffer(mini_batch)
        return [row(path) for path in mini_batch]
"""


class Counted:
    """The script, its input and its output in a folder; `suffer` is more of the script, variables are its own."""

    def __init__(
        self, folder: Path, count: int = 0, suffer: str = "", *, inputs: Path | None = None, **variables: object
    ) -> None:
        """Over `count` files, or over those of the folder `inputs`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.inputs, self.output, self._notes = inputs or folder / "in", folder / "out", folder / "runs"
        self.paths = sorted(inputs.iterdir()) if inputs else write_files(self.inputs, count, _text)
        self.script = write_script(folder, dedent(SCRIPT) + dedent(suffer))
        self._variables = {"RUNS": str(self._notes), **{name: str(value) for name, value in variables.items()}}

    def settings(self, **settings: Any) -> dict[str, Any]:
        """Those of its submission. Unless `settings` say otherwise mini-batches have one item, and none is run twice
        because it takes long."""
        given = {"mini_batch_size": 1, "backup_attempts": False, "environment_variables": self._variables}
        return {**given, **settings}

    def run(self, address: str, **settings: Any) -> Job:
        """To its end."""
        return run_job(address, self.script, self.inputs, self.output, **self.settings(**settings))

    def follow(self, address: str, job_id: str, **settings: Any) -> Follower:
        """Submits it on a thread that watches it to its end, whatever happens to the mesh meanwhile."""
        return Follower(address, self.script, self.inputs, self.output, job_id, self.settings(**settings))

    def runs(self) -> Counter[str]:
        """How often each mini-batch, by the names of its items, was given to run(): as the workers wrote it down."""
        return Counter(self._notes.read_text().splitlines() if self._notes.exists() else ())

    def plain_loop(self, without: frozenset[str] = frozenset()) -> bytes:
        """The bytes that the same script gives in a plain loop over the items but those `without`."""
        row = runpy.run_path(str(self.script))["row"]
        return "".join(f"{row(path)}\n" for path in self.paths if path.name not in without).encode()

    def is_right(self, job: Job, without: frozenset[str] = frozenset()) -> None:
        """The output is the plain loop's, byte for byte, and the counts add up."""
        succeeded(job)
        assert Path(job.output_path).read_bytes() == self.plain_loop(without)
        assert job.progress.succeeded_items == len(self.paths) - len(without)
        adds_up(job)

    def ran_once_each(self, size: int = 1) -> None:
        """No mini-batch was given to run() twice."""
        runs = self.runs()
        assert {names: count for names, count in runs.items() if count > 1} == {}
        assert len(runs) == -(-len(self.paths) // size)


def _text(number: int) -> str:
    return f"text of {number}\n" * (number % 7 + 1)
