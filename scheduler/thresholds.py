"""When a job has failed more than it bears, and the sentence that says so. Counted on final failures only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .model import Failure, FailureKind

if TYPE_CHECKING:
    from .model import Counts, JobState


def exceeded(job: JobState) -> Failure | None:
    """The failure of a job over one of its thresholds, with the first failure of its mini-batches as the cause."""
    sentence = _items(job) or _mini_batches(job) or _percent(job)
    return _with_cause(sentence, job) if sentence else None


def without_success(job: JobState) -> Failure | None:
    """The failure of an append_row job in which no item at all succeeded, whatever its thresholds."""
    counts = job.counts
    if not job.limits.needs_rows or counts.succeeded_items:
        return None
    if not counts.planned_items:
        return Failure(FailureKind.THRESHOLD, "The input has no rows; give an input that holds some.")
    return _with_cause(f"None of the {counts.planned_items} items succeeded", job)


def _items(job: JobState) -> str:
    failed, bears = job.counts.failed_items, job.limits.error_threshold
    if bears < 0 or failed <= bears:
        return ""
    return f"{_number(failed, 'item')} failed, more than error_threshold={bears} bears"


def _mini_batches(job: JobState) -> str:
    failed, bears = job.counts.failed_mini_batches, job.limits.allowed_failed_count
    if bears < 0 or failed <= bears:
        return ""
    return f"{_number(failed, 'mini-batch')} failed, more than allowed_failed_count={bears} bears"


def _percent(job: JobState) -> str:
    counts, bears = job.counts, job.limits.allowed_failed_percent
    if bears >= 100 or not all_scheduled(job) or not counts.planned_mini_batches:
        return ""
    percent = 100 * counts.failed_mini_batches / counts.planned_mini_batches
    if percent <= bears:
        return ""
    return f"{percent:.4g} % of the mini-batches failed, more than allowed_failed_percent={bears:g} bears"


def all_settled(job: JobState) -> bool:
    """Whether every mini-batch is planned and nothing more is to come of any."""
    counts: Counts = job.counts
    done = counts.planning_ended and counts.settled >= counts.planned_mini_batches
    return done and not job.running and not job.waiting


def all_scheduled(job: JobState) -> bool:
    """Whether every mini-batch is planned and each is settled, out on a node, or being split.

    Of two attempts of one mini-batch one counts, and a mini-batch that is being split is one, whatever becomes of its
    parts.
    """
    counts: Counts = job.counts
    out = len(job.running) - len(job.twins) // 2 - job.parts_out + len(job.isolations)
    return counts.planning_ended and counts.settled + out >= counts.planned_mini_batches


def _number(count: int, noun: str) -> str:
    plural = {"item": "items", "mini-batch": "mini-batches"}[noun]
    return f"1 {noun}" if count == 1 else f"{count} {plural}"


def _with_cause(sentence: str, job: JobState) -> Failure:
    first = job.first_failure
    if first is None:
        return Failure(FailureKind.THRESHOLD, f"{sentence}; failed_items.jsonl in the job's report names them.")
    return Failure(FailureKind.THRESHOLD, f"{sentence}; the first failure: {first.message}", first.traceback)
