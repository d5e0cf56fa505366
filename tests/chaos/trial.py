"""Jobs one after another on a mesh in a storm, each judged when it has ended."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from batchmesh.client import Client
from batchmesh.errors import BatchmeshError
from batchmesh.job import JobState, NodeState
from tests.support.story import wait_for

from . import faults, jobs
from .follower import Follower
from .judge import Verdict, judge
from .storm import Storm

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchmesh.job import Job

    from .faults import Kind
    from .jobs import ChaosJob
    from .mesh import ChaosMesh

#: Seconds within which a job ends, and a mesh is whole again, once no more faults happen.
PATIENCE = 120.0
_TAIL = 4_000


class Broken(Exception):
    """A promise that did not hold; the message says all that is known."""


@dataclass
class Summary:
    """What a trial of so many faults was, once it has passed."""

    seed: int
    faults: Counter[Kind] = field(default_factory=Counter)
    jobs: list[tuple[ChaosJob, Verdict]] = field(default_factory=list)
    seconds: float = 0.0

    def table(self) -> str:
        """Markdown."""
        verdicts = [verdict for _, verdict in self.jobs]
        rows = [
            ("fault", "times"),
            ("---", "---"),
            *((str(kind), str(n)) for kind, n in sorted(self.faults.items()) if n),
        ]
        kinds = Counter(job.table for job, _ in self.jobs)
        rows += [
            ("**all faults**", f"**{self.faults.total()}**"),
            ("jobs", f"{len(self.jobs)} ({', '.join(f'{kind} {n}' for kind, n in kinds.items())})"),
            ("mini-batches", str(sum(job.mini_batches for job, _ in self.jobs))),
            ("poison items, each named, no other lost", str(sum(len(job.poison) for job, _ in self.jobs))),
            ("runs of run()", str(sum(each.runs for each in verdicts))),
            ("of them repeated because of a fault", self._repeated(backups=False)),
            ("the same in jobs that ran backup attempts", self._repeated(backups=True)),
            ("longest time without a run that ended", f"{max((v.longest_pause for v in verdicts), default=0):.1f} s"),
            ("whole trial", f"{self.seconds:.0f} s"),
        ]
        return "".join(f"| {name} | {value} |\n" for name, value in rows)

    def _repeated(self, *, backups: bool) -> str:
        own = [verdict for job, verdict in self.jobs if job.backups is backups]
        return f"{sum(each.repeated for each in own)} of {sum(each.runs for each in own)}"


class Trial:
    """`say` is told each step as one line. The same seed draws the same jobs and the same faults."""

    def __init__(self, mesh: ChaosMesh, seed: int, budget: int, seconds: float, say: Callable[[str], None]) -> None:
        """`budget` faults in all; each job is work for about `seconds`."""
        self._mesh = mesh
        self._say = say
        self._seconds = seconds
        rng = Random(seed)
        self._jobs, of_faults = Random(rng.random()), Random(rng.random())
        self._storm = Storm(mesh, faults.draw(of_faults, mesh.ground), budget, say)
        self._script = jobs.script(mesh.folder)
        self.summary = Summary(seed)

    def run(self) -> Summary:
        """Until all faults have happened. Errors: Broken, Died, AssertionError."""
        begun = time.monotonic()
        self._calm()
        while self._storm.left:
            self._one_job(jobs.draw(self._jobs, len(self.summary.jobs), self._seconds))
        self.summary.faults = self._storm.counts
        self.summary.seconds = time.monotonic() - begun
        return self.summary

    def _one_job(self, job: ChaosJob) -> None:
        self._say(str(job))
        inputs, runs = self._mesh.folder / "in" / job.job_id, self._mesh.folder / f"{job.job_id}.runs"
        jobs.write_input(job, inputs)
        golden = self._golden(job, inputs) if jobs.expected(job) is None else None
        output = self._mesh.folder / "disk" / job.job_id
        given = jobs.settings(job, runs)
        follower = Follower(self._mesh.address, self._script, inputs, output, job.job_id, given)
        self._storm.blow(follower.done.is_set, spare_workers=bool(job.poison))
        self._storm.abate()
        self._await(follower)
        verdict = judge(job, follower.told, golden, runs, self._mesh.slots)
        if verdict.wrong:
            raise Broken(f"{job}\n  " + "\n  ".join(verdict.wrong) + f"\n{self._state(follower)}")
        self._say(f"{job.job_id} is right: {verdict}")
        self.summary.jobs.append((job, verdict))
        self._calm()
        self._clean(job.job_id, inputs, output)

    def _await(self, follower: Follower) -> None:
        if not follower.done.wait(PATIENCE):
            raise Broken(f"The job did not end within {PATIENCE:g} s of the last fault.\n{self._state(follower)}")
        if follower.error is not None:
            raise Broken(f"The client failed: {follower.error!r}\n{self._state(follower)}") from follower.error

    def _golden(self, job: ChaosJob, inputs: Path) -> bytes:
        """The output of the same job while nothing happens."""
        job_id, output = f"{job.job_id}-golden", self._mesh.folder / "disk" / "golden"
        given = jobs.settings(job, self._mesh.folder / "golden.runs", quick=True)
        follower = Follower(self._mesh.address, self._script, inputs, output, job_id, given)
        self._await(follower)
        if follower.job.state is not JobState.SUCCEEDED or not jobs.has_rows(job, Path(follower.job.output_path)):
            raise Broken(f"The quiet job has failed, or other rows than the plain loop.\n{self._state(follower)}")
        golden = Path(follower.job.output_path).read_bytes()
        self._clean(job_id, output)
        return golden

    def _calm(self) -> None:
        """All services answer, and all agents have joined by themselves."""
        with Client(self._mesh.address) as client:
            wait_for(lambda: _ready(client) == self._mesh.agents, "all agents ready", PATIENCE)

    def _clean(self, job_id: str, *folders: Path) -> None:
        with Client(self._mesh.address) as client:
            client.delete(job_id)
        for folder in folders:
            shutil.rmtree(folder)

    def _state(self, follower: Follower) -> str:
        """What the services say of themselves, and the ends of their logs."""
        lines = [_of_job(follower.job) if follower.told else "nothing was told of the job"]
        for name, part in self._mesh.parts.items():
            log = part.log.read_text(errors="replace")[-_TAIL:] if part.log.exists() else ""
            lines.append(f"--- {name} {'lives' if part.alive else 'is dead'}; the end of {part.log}:\n{log}")
        return "\n".join(lines)


def _of_job(job: Job) -> str:
    return f"{job.job_id} is {job.state}, waits for '{job.waiting_for}', error {job.error}, {job.progress}"


def _ready(client: Client) -> int:
    """Agents that have joined and are not about to be lost."""
    try:
        return sum(node.state is NodeState.READY for node in client.nodes())
    except BatchmeshError:
        return 0
