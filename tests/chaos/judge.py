"""What has to hold of each job, whatever happened while it ran; each broken promise is one sentence."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batchmesh.job import JobState
from tests.support import story

from . import jobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batchmesh.job import Job

    from .follower import Told
    from .jobs import ChaosJob


class Note(NamedTuple):
    """One line of a worker's own notes; see work.py."""

    what: str
    pid: int
    agent: int
    at: float
    first: int
    items: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`wrong` is empty when all is well. Runs are counted by the workers themselves."""

    wrong: tuple[str, ...]
    runs: int
    #: Runs, of what holds no poison, beyond the first of each.
    repeated: int
    #: Longest time in which no run ended, seconds.
    longest_pause: float

    def __str__(self) -> str:
        return f"{self.runs} runs, {self.repeated} repeated; {self.longest_pause:.1f} s without an end of one at most"


def judge(job: ChaosJob, told: list[Told], golden: bytes | None, runs: Path, slots: int) -> Verdict:
    """`golden` is the output of the same job on a quiet mesh, where the harness cannot write it itself."""
    notes = read_notes(runs)
    end = told[-1].job
    wrong = [*_of_state(end), *_of_told(told), *_of_notes(notes, slots)]
    if end.state is JobState.SUCCEEDED:
        wrong += [*_of_output(job, end, golden), *_of_report(job, end)]
    begun = [note for note in notes if note.what == "begin"]
    good = Counter((note.first, note.items) for note in begun if not _poisoned(job, note))
    return Verdict(tuple(wrong), len(begun), good.total() - len(good), _longest_pause(notes, told))


def read_notes(runs: Path) -> list[Note]:
    """All that the workers of a job have written down."""
    fields = (line.split() for line in runs.read_text().splitlines()) if runs.exists() else ()
    return [Note(what, int(pid), int(up), float(at), int(first), int(n)) for what, pid, up, at, first, n in fields]


def _of_state(end: Job) -> Iterator[str]:
    if end.state is not JobState.SUCCEEDED:
        yield f"the job ended as {end.state}: {end.error}"


def _of_told(told: list[Told]) -> Iterator[str]:
    """Invariant 5: what a client was told is done stays done."""
    for before, after in pairwise(told):
        was, now = before.job.progress, after.job.progress
        if now.succeeded_mini_batches < was.succeeded_mini_batches or now.succeeded_items < was.succeeded_items:
            yield f"succeeded mini-batches went from {was.succeeded_mini_batches} to {now.succeeded_mini_batches}"
        if before.job.state.is_final:
            yield f"after {before.job.state} the client was told {after.job.state}"


def _of_output(job: ChaosJob, end: Job, golden: bytes | None) -> Iterator[str]:
    """Invariant 4: the plain loop's bytes, and nothing else in the folder."""
    path = Path(end.output_path)
    wanted = jobs.expected(job)
    if wanted is None and not jobs.has_rows(job, path):
        yield f"{path.name} has other rows than the plain loop"
    wanted = golden if wanted is None else wanted
    if path.read_bytes() != wanted:
        yield f"{path.name} differs from the plain loop's: {_difference(path.read_bytes(), wanted or b'')}"
    if others := sorted(each.name for each in path.parent.iterdir() if each.name not in (path.name, "job_report")):
        yield f"the output folder holds {', '.join(others)}, too"


def _difference(got: bytes, wanted: bytes) -> str:
    if len(got) != len(wanted):
        lines = Counter(got.splitlines()), Counter(wanted.splitlines())
        extra, missing = list((lines[0] - lines[1]).elements()), list((lines[1] - lines[0]).elements())
        return f"{len(extra)} lines more ({extra[:2]}), {len(missing)} lines less ({missing[:2]})"
    at = next(at for at, (one, other) in enumerate(zip(got, wanted, strict=True)) if one != other)
    return f"from byte {at} on"


def _of_report(job: ChaosJob, end: Job) -> Iterator[str]:
    """Invariant 3: all counts add up, and exactly the poison items are named."""
    try:
        story.adds_up(end)
    except AssertionError as error:
        yield f"the counts do not add up: {error}"
    counts = (end.progress.succeeded_items, end.progress.failed_items)
    if counts != (len(job.good), len(job.poison)):
        yield f"{counts[0]} items succeeded and {counts[1]} failed; {len(job.good)} and {len(job.poison)} should have"
    lines = story.failed_items(end)
    named = sorted(jobs.number_of(job, line["item"]) if line["item"] else -1 for line in lines)
    if named != sorted(job.poison) or any(line["count"] != 1 for line in lines):
        yield f"failed_items.jsonl names {named} instead of {sorted(job.poison)}: {lines}"
    with (Path(end.report_path) / "processed_mini-batches.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    if len(rows) != job.mini_batches:
        yield f"processed_mini-batches.csv has {len(rows)} rows for {job.mini_batches} mini-batches"


def _of_notes(notes: list[Note], slots: int) -> Iterator[str]:
    """Invariants 1 and 2, by what the workers wrote down."""
    of_worker: defaultdict[int, list[Note]] = defaultdict(list)
    for note in notes:
        of_worker[note.pid].append(note)
    for pid, own in of_worker.items():
        if [note.what for note in own].count("init") != 1 or own[0].what != "init":
            yield f"worker {pid} did not run init() once and first"
    for agent in {note.agent for note in notes}:
        ended = [each for own in of_worker.values() for each in _ended_runs(own) if each[0].agent == agent]
        if (most := _most_at_once(ended)) > slots:
            yield f"agent {agent} had {most} run() at once, with {slots} slots"


def _ended_runs(notes: list[Note]) -> list[tuple[Note, Note]]:
    """Of one worker: the runs that it began and ended."""
    runs = [note for note in notes if note.what != "init"]
    return [(one, other) for one, other in pairwise(runs) if (one.what, other.what) == ("begin", "end")]


def _most_at_once(runs: Iterable[tuple[Note, Note]]) -> int:
    steps = sorted((note.at, change) for run in runs for note, change in zip(run, (1, -1), strict=True))
    most = now = 0
    for _, change in steps:
        now += change
        most = max(most, now)
    return most


def _longest_pause(notes: list[Note], told: list[Told]) -> float:
    times = [told[0].at, *sorted(note.at for note in notes if note.what == "end"), told[-1].at]
    return max((after - before for before, after in pairwise(times)), default=0.0)


def _poisoned(job: ChaosJob, note: Note) -> bool:
    return any(note.first <= item < note.first + note.items for item in job.poison)
