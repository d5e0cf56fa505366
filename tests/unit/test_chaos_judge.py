"""The judge of `make chaos` sees each kind of broken promise: a harness that finds nothing would prove nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.job import Failure, Job, JobSpec, JobState, Progress
from tests.chaos import faults, jobs
from tests.chaos.follower import Told
from tests.chaos.jobs import ChaosJob, Table
from tests.chaos.judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

JOB = ChaosJob(0, Table.FILES, 3, 2, {}, frozenset({3}), "raises", backups=False)
#: Three mini-batches of two files, the poison one tried once and then in halves.
RUNS = """
init 10 1 0.5 0 0
begin 10 1 1.0 0 2
end 10 1 2.0 0 2
begin 10 1 2.5 2 2
begin 10 1 3.0 2 1
end 10 1 3.5 2 1
begin 10 1 4.0 3 1
init 11 1 0.5 0 0
begin 11 1 1.5 4 2
end 11 1 3.0 4 2
""".lstrip()


class Story:
    """What a client was told of a job that went well, its files, and its workers' notes; each may be spoilt."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "out"
        report = self.output / "job_report"
        report.mkdir(parents=True)
        (self.output / "out.txt").write_bytes(jobs.expected(JOB) or b"")
        self.failed = report / "failed_items.jsonl"
        self.failed.write_text(json.dumps({"item": "/in/000003.txt", "count": 1}) + "\n")
        items = {"planned": 6, "succeeded": 5, "failed": 1, "not_reached": 0}
        (report / "summary.json").write_text(json.dumps({"items": items}))
        (report / "processed_mini-batches.csv").write_text("head\n" + "row\n" * 3)
        self.runs = folder / "runs"
        self.runs.write_text(RUNS)
        counts = [Progress(succeeded_mini_batches=n, succeeded_items=2 * n) for n in (0, 1, 2)]
        end = Progress(succeeded_mini_batches=2, succeeded_items=5, failed_items=1)
        self.told = [Told(float(n), _job(JobState.RUNNING, each)) for n, each in enumerate(counts)]
        self.told.append(Told(5.0, _job(JobState.SUCCEEDED, end, str(self.output / "out.txt"), str(report))))

    def wrong(self) -> str:
        return "; ".join(judge(JOB, self.told, None, self.runs, slots=2).wrong)


def _job(state: JobState, progress: Progress, output: str = "", report: str = "") -> Job:
    failure: Failure | None = None
    times: tuple[None, None, None] = (None, None, None)
    return Job("chaos-0", JobSpec("work.py", (), ""), state, "", failure, failure, progress, *times, output, report, 1)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_job_that_kept_every_promise_has_nothing_wrong(story: Story) -> None:
    assert story.wrong() == ""
    verdict = judge(JOB, story.told, None, story.runs, slots=2)
    assert (verdict.runs, verdict.repeated, verdict.longest_pause) == (5, 0, 2.0)


def test_a_run_that_was_repeated_is_counted_unless_it_held_poison(story: Story) -> None:
    story.runs.write_text(RUNS + "begin 11 1 3.1 0 2\nend 11 1 3.2 0 2\nbegin 11 1 3.3 2 2\n")
    assert judge(JOB, story.told, None, story.runs, slots=2).repeated == 1


def _line(item: int) -> str:
    """What the output has for an item."""
    lines = (jobs.expected(JOB) or b"").decode().splitlines(keepends=True)
    return lines[JOB.good.index(item)]


SPOILT: dict[str, Callable[[Story], Any]] = {
    "0 lines more ([]), 1 lines less": lambda story: _change(story.output / "out.txt", _line(5), ""),
    "1 lines more": lambda story: _change(story.output / "out.txt", _line(5), 2 * _line(5)),
    "differs from the plain loop's": lambda story: (story.output / "out.txt").write_bytes(b""),
    "holds left-over": lambda story: (story.output / "left-over").touch(),
    "failed_items.jsonl names [2]": lambda story: _change(story.failed, "000003", "000002"),
    "counts do not add up": lambda story: _change(story.failed, '"count": 1', '"count": 2'),
    "has 2 rows for 3": lambda story: _change(story.output / "job_report" / "processed_mini-batches.csv", "row\n", ""),
    "went from 2 to 1": lambda story: story.told.insert(3, story.told[1]),
    "was told RUNNING": lambda story: story.told.append(story.told[2]),
    "ended as FAILED": lambda story: story.told.append(Told(6.0, replace(story.told[-1].job, state=JobState.FAILED))),
    "worker 11 did not run init()": lambda story: _change(story.runs, "init 11 1 0.5 0 0\n", ""),
    "had 3 run() at once": lambda story: story.runs.write_text(
        RUNS + "init 12 1 0.5 0 0\nbegin 12 1 1.6 0 2\nend 12 1 1.7 0 2\n"
    ),
}


@pytest.mark.parametrize("complaint", SPOILT)
def test_the_judge_sees_what_is_wrong(story: Story, complaint: str) -> None:
    SPOILT[complaint](story)
    assert complaint in story.wrong()


def test_a_seed_draws_the_same_jobs_and_the_same_faults_again() -> None:
    ground = faults.Ground(agents=3, lease=4.0)
    one, other = (faults.draw(Random(7), ground) for _ in range(2))
    drawn = [next(one) for _ in range(500)]
    assert drawn == [next(other) for _ in range(500)]
    assert {fault.kind for fault in drawn} == set(faults.Kind)
    assert {fault.target for fault in drawn} >= {*ground.services, *ground.wires, faults.WORKER}
    assert jobs.draw(Random(7), 3, 10.0) == jobs.draw(Random(7), 3, 10.0)
