"""What people and machines are shown of a job."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batchmesh.cli.outcome import lines
from batchmesh.cli.progress import Bar, JsonLines, Lines, Rate
from batchmesh.cli.shape import counts, span
from batchmesh.job import Failure, Job, JobSpec, JobState, Progress

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(
    job_id="job-1",
    spec=JobSpec("score.py", ("/in",), "/out"),
    state=JobState.RUNNING,
    waiting_for="",
    error=None,
    first_failure=None,
    progress=Progress(planned_mini_batches=10, planned_items=100, planning_ended=True),
    submitted=BEGIN,
    started=BEGIN,
    ended=BEGIN + timedelta(seconds=4),
    output_path="",
    report_path="",
    version=1,
)


def at(state: JobState = JobState.RUNNING, **counted: Any) -> Job:
    return dataclasses.replace(JOB, state=state, progress=dataclasses.replace(JOB.progress, **counted))


def test_counts_say_when_the_plan_may_still_grow() -> None:
    assert counts(at(succeeded_mini_batches=2, succeeded_items=20)) == "2/10 mini-batches, 20 items"
    listing = dataclasses.replace(JOB, progress=Progress(planned_mini_batches=3, failed_items=1))
    assert counts(listing) == "0/3+ mini-batches, 1 items, 1 failed"


def test_the_time_left_follows_the_rate() -> None:
    rate = Rate()
    rate.add(0, 100.0)
    assert rate.left(at()) == ""
    rate.add(20, 102.0)
    assert rate.per_second() == 10.0
    assert rate.left(at(succeeded_items=20)) == "0:08"
    assert rate.left(at(JobState.FAILED, succeeded_items=20)) == ""


def test_old_states_do_not_count_in_the_rate() -> None:
    rate = Rate()
    for second in range(100):
        rate.add(0 if second < 70 else 10 * (second - 69), float(second))
    assert rate.per_second() == pytest.approx(10.0, rel=0.1)


def test_spans_read_as_clocks() -> None:
    assert [span(7), span(67), span(3723)] == ["0:07", "1:07", "1:02:03"]


def test_plain_lines_come_at_most_one_a_second_and_always_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines() as shown:
        for number in range(50):
            shown.show(at(succeeded_items=number))
        shown.show(at(JobState.SUCCEEDED, succeeded_items=100))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "SUCCEEDED" in said[1]


def test_what_a_job_waits_for_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines() as shown:
        shown.show(dataclasses.replace(JOB, waiting_for="warming 2 workers"))
    assert "warming 2 workers" in capsys.readouterr().err


def test_what_a_job_waits_for_is_shown_while_it_runs_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    held_up = dataclasses.replace(at(running_mini_batches=2), waiting_for="the disk of storage is full")
    with Bar() as bar:
        bar.show(held_up)
    assert "the disk of storage is full" in capsys.readouterr().err


def test_json_lines_are_states_without_repetition(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonLines() as shown:
        for job in (at(), at(), at(JobState.SUCCEEDED)):
            shown.show(job)
    states = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["state"] for each in states] == ["RUNNING", "SUCCEEDED"]
    assert states[0]["submitted"] == "2026-01-01T00:00:00+00:00"


def test_a_failed_job_shows_the_first_user_traceback_and_its_report() -> None:
    first = Failure("RUN_RAISED", "run() raised ValueError: no", "Traceback (most recent call last):\nValueError: no\n")
    error = Failure("THRESHOLD", "Too many items failed.", "")
    ended = dataclasses.replace(at(JobState.FAILED), error=error, first_failure=first, report_path="/out/job_report")
    said = lines(ended)
    assert "error: Too many items failed." in said
    assert "Traceback (most recent call last):\nValueError: no" in said
    assert "report: /out/job_report" in said


def test_what_can_be_done_about_an_end_is_named() -> None:
    over = dataclasses.replace(at(JobState.FAILED), error=Failure("THRESHOLD", "Too many items failed.", ""))
    assert "--failed" in lines(over)[-1]
    assert "--error-threshold" in lines(over)[-1]
    assert lines(at(JobState.CANCELLED))[-1] == "What is done stays done: batchmesh resume job-1"
    assert lines(at(JobState.SUCCEEDED, failed_items=1))[-1].endswith("batchmesh resume job-1 --failed")


def test_a_succeeded_job_shows_where_its_output_lies() -> None:
    ended = dataclasses.replace(at(JobState.SUCCEEDED, rows=7, succeeded_items=100), output_path="/out/x.txt")
    said = lines(ended)
    assert said[0] == "job-1 succeeded: 0 mini-batches, 100 items succeeded in 4.0 s (25 items/s)"
    assert "output: /out/x.txt (7 rows)" in said
