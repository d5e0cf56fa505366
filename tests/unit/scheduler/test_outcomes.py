"""What a node tells of its attempts, as the database and the Machine get it."""

from __future__ import annotations

from batchmesh.scheduler.isolation import Isolation
from batchmesh.scheduler.jobs import JobRecord
from batchmesh.scheduler.model import Failure, FailureKind, JobState, Limits, MiniBatch, Running
from batchmesh.scheduler.outcomes import failed_outcome, read_outcomes
from batchmesh.scheduler.tables import JobRow
from batchmesh.v1 import agent_pb2, job_pb2

RAISED = job_pb2.Failure.KIND_RUN_RAISED


def record(*running: MiniBatch, limits: Limits | None = None) -> JobRecord:
    """A job whose mini-batches are out as attempts 1, 2, …"""
    row = JobRow(4, "job-1", b"", 2, 1, 0, 1.0, None, None, 0, None, None, None, 9, 90, 0, 1, None, "", "", b"")
    state = JobState("job-1", limits or Limits(), since=0.0)
    state.running = {number: Running(each, "node", 0.0) for number, each in enumerate(running, 1)}
    return JobRecord(row, state)


def told(*attempts: int, failed: int = 0, kind: job_pb2.Failure.Kind.ValueType = RAISED) -> agent_pb2.Outcomes:
    sevens, times = [7] * len(attempts), [1_500_000] * len(attempts)
    outcomes = agent_pb2.Outcomes(
        attempt_id=attempts,
        segment="s",
        offset=sevens,
        length=sevens,
        rows=sevens,
        succeeded_items=sevens,
        failed_items=sevens,
        process=sevens,
        started_us=times,
        run_us=times,
        elapsed_us=times,
    )
    if failed:
        outcomes.failures.add(attempt_id=failed, failure=job_pb2.Failure(kind=kind, message="no"))
    return outcomes


def test_an_outcome_names_its_place_and_how_long_it_took() -> None:
    (row,), others, (end,) = read_outcomes(record(MiniBatch(5, 10, tries=1)), "node", told(1))
    assert row == (4, 5, 10, 2, 1, "s", 7, 7, 7, 7, 7, "node", 7, 1_500_000, 1_500_000, 1_500_000)
    assert others == []
    assert (end.attempt_id, end.succeeded_items, end.failure, end.elapsed) == (1, 7, None, 1.5)


def test_what_is_not_out_any_more_is_nobodys() -> None:
    assert read_outcomes(record(MiniBatch(5, 10)), "node", told(2)) == ([], [], [])


def test_an_attempt_that_did_not_start_leaves_no_trace() -> None:
    told_of = told(1, failed=1, kind=job_pb2.Failure.KIND_NOT_STARTED)
    good, others, (end,) = read_outcomes(record(MiniBatch(5, 10)), "node", told_of)
    assert (good, others) == ([], [])
    assert end.failure is not None


def is_final(mini_batch: MiniBatch, limits: Limits, kind: job_pb2.Failure.Kind.ValueType = RAISED) -> bool:
    _, (row,), _ = read_outcomes(record(mini_batch, limits=limits), "node", told(1, failed=1, kind=kind))
    assert (row.failed, row.length, row.segment) == (mini_batch.items, 0, "")
    return row.final


def test_a_failure_is_final_when_no_try_is_left_and_nothing_is_searched_for() -> None:
    on, off = Limits(run_max_try=3), Limits(run_max_try=3, isolate_failures=False)
    assert not is_final(MiniBatch(5, 10, tries=1), off)
    assert is_final(MiniBatch(5, 10, tries=2), off)
    assert not is_final(MiniBatch(5, 10, tries=2), on)
    assert is_final(MiniBatch(5, 1, tries=2), on)
    assert is_final(MiniBatch(5, 10, tries=2), on, job_pb2.Failure.KIND_BAD_RETURN)


def test_the_last_try_is_final_also_while_another_attempt_is_at_it_whose_success_would_take_its_place() -> None:
    twice = MiniBatch(5, 1, tries=2)
    job = record(twice, twice)
    assert job.state is not None
    job.state.twins = {1: 2, 2: 1}
    _, (row,), _ = read_outcomes(job, "node", told(1, failed=1))
    assert row.final


def test_a_part_says_which_it_is_and_is_never_final_by_itself() -> None:
    part = MiniBatch(5, 1, tries=1, first=6, level=4)
    job = record(part)
    assert job.state is not None
    job.state.isolations[5] = Isolation(5, 8, level=4, runs=7, open=[part])
    _, (row,), _ = read_outcomes(job, "node", told(1, failed=1))
    assert (row.idx, row.first, row.items, row.level, row.runs, row.tries) == (5, 6, 1, 4, 7, 2)
    assert not row.final


def test_the_loss_of_a_node_that_counts_is_written_like_a_failure() -> None:
    job = record(MiniBatch(5, 10, tries=2))
    assert job.state is not None
    row = failed_outcome(4, job.state, 1, "gone", Failure(FailureKind.NODE_LOST, "lost"))
    assert (row.idx, row.tries, row.failed, row.node, row.final) == (5, 3, 10, "gone", True)
    assert job_pb2.Failure.FromString(row.failure or b"").kind == job_pb2.Failure.KIND_NODE_LOST
