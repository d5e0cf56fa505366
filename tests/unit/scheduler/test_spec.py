"""Settings: each default is the facts', and each wrong one is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from batchmesh.errors import SpecRefused
from batchmesh.scheduler.model import FailureKind, PoolPhase, State
from batchmesh.scheduler.spec import check_job_id, completed, limits_of, resumed_spec
from batchmesh.v1 import agent_pb2, job_pb2
from batchmesh.v1.scheduler_pb2 import ResumeJobRequest


def spec(**settings: object) -> job_pb2.JobSpec:
    given: dict[str, object] = {"entry_script": "s.py", "source_digest": "d", "inputs": ["/in"], "output": "/out"}
    return job_pb2.JobSpec(**(given | settings))  # type: ignore[arg-type]


def test_absent_settings_take_the_defaults_of_the_facts() -> None:
    full = completed(spec())
    assert full.run_invocation_timeout == 60
    assert full.run_max_try == 3
    assert full.error_threshold == 0
    assert full.allowed_failed_count == -1
    assert full.allowed_failed_percent == 100
    assert full.task_overhead_timeout == 30
    assert full.progress_update_timeout == 3 * (60 + 30)
    assert full.first_task_creation_timeout == 600
    assert full.append_row_file_name == "parallel_run_step.txt"
    assert full.output_action == job_pb2.OUTPUT_ACTION_APPEND_ROW
    assert full.logging_level == "INFO"
    assert full.isolate_failures
    assert not full.HasField("backup_attempts"), "by rule: with more than one node"


def test_an_explicit_zero_is_no_absence() -> None:
    assert completed(spec(allowed_failed_count=0)).allowed_failed_count == 0
    assert completed(spec(allowed_failed_percent=0.0)).allowed_failed_percent == 0


def test_a_completed_spec_is_complete() -> None:
    assert completed(completed(spec())) == completed(spec())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entry_script", ""),
        ("source_digest", ""),
        ("inputs", []),
        ("inputs", ["relative"]),
        ("output", ""),
        ("output", "relative"),
        ("mini_batch_size", "ten"),
        ("input_sizes", [2]),
        ("input_sizes", [1, 0]),
        ("csv_header", "maybe"),
        ("append_row_file_name", "a?b"),
        ("append_row_file_name", "job_report"),
        ("error_threshold", -2),
        ("allowed_failed_count", -2),
        ("allowed_failed_percent", 101.0),
        ("process_count_per_node", 0),
        ("process_count_per_node", -1),
        ("node_count", 0),
        ("run_max_try", 0),
        ("run_invocation_timeout", 0.0),
        ("run_invocation_timeout", 259_201.0),
        ("task_overhead_timeout", -1.0),
        ("logging_level", "LOUD"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(SpecRefused) as refused:
        completed(spec(**{field: value}))
    assert list(refused.value.violations) == [field]


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(SpecRefused) as refused:
        completed(spec(run_max_try=0, error_threshold=-5))
    assert set(refused.value.violations) == {"run_max_try", "error_threshold"}


@pytest.mark.parametrize("job_id", ["", "-a", "Upper", "a" * 64, "a/b"])
def test_a_bad_job_id_is_refused(job_id: str) -> None:
    with pytest.raises(SpecRefused):
        check_job_id(job_id)


def test_summary_only_needs_no_rows() -> None:
    assert not limits_of(completed(spec(output_action=job_pb2.OUTPUT_ACTION_SUMMARY_ONLY))).needs_rows


def test_isolation_and_backups_are_what_was_said_of_them() -> None:
    assert limits_of(completed(spec())).isolate_failures
    assert limits_of(completed(spec())).backup_attempts is None
    said = limits_of(completed(spec(isolate_failures=False, backup_attempts=False)))
    assert (said.isolate_failures, said.backup_attempts) == (False, False)


def test_a_resume_changes_what_it_names_and_nothing_else() -> None:
    before = completed(spec(run_max_try=7, allowed_failed_count=3))
    assert resumed_spec(before, ResumeJobRequest(job_id="j", failed=True)) == before
    after = resumed_spec(before, ResumeJobRequest(error_threshold=-1, source_digest="other"))
    assert (after.error_threshold, after.source_digest, after.run_max_try) == (-1, "other", 7)
    assert before.source_digest == "d"


def test_a_longer_run_may_go_longer_without_a_mini_batch_unless_that_was_set() -> None:
    longer = ResumeJobRequest(run_invocation_timeout=1000.0)
    assert resumed_spec(completed(spec()), longer).progress_update_timeout == 3 * (1000 + 30)
    assert resumed_spec(completed(spec(progress_update_timeout=5.0)), longer).progress_update_timeout == 5.0


def test_a_resume_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(SpecRefused, match="error_threshold"):
        resumed_spec(completed(spec()), ResumeJobRequest(error_threshold=-2))


def test_the_models_numbers_are_the_protos() -> None:
    assert {f"KIND_{kind.name}": int(kind) for kind in FailureKind} == {
        name: number for name, number in job_pb2.Failure.Kind.items() if number
    }
    assert {f"STATE_{state.name}": int(state) for state in State} == {
        name: number for name, number in job_pb2.Job.State.items() if number
    }
    assert {f"PHASE_{phase.name}": int(phase) for phase in PoolPhase if phase} == {
        name: number for name, number in agent_pb2.PoolStatus.Phase.items() if number
    }


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"requirements": ["a\nb"]}, "environment has 'a\\nb'; a requirement is one line, and has no NUL."),
        ({"requirements": ["a\0"]}, "environment has 'a\\x00'; a requirement is one line, and has no NUL."),
        ({"requirements": ["a"], "user_managed": True, "interpreter_path": "/p"}, "leave out one of the two"),
        ({"interpreter_path": "python3"}, "environment has the interpreter 'python3'; it must be an absolute path."),
        ({"requirements": ["numpy", "-r more.txt"]}, "'-r more.txt', and more.txt would be another file on each node"),
        ({"requirements": ["--editable=."]}, "would be another file on each node"),
        ({"requirements": ["wheels/it-1.0.whl"]}, "would be another file on each node"),
    ],
)
def test_an_environment_that_no_node_can_make_as_meant_is_refused(environment: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecRefused) as refused:
        completed(spec(environment=job_pb2.Environment(**environment)))
    assert sentence in str(refused.value)
    assert list(refused.value.violations) == ["environment"]


def test_an_environment_that_each_node_can_make_is_taken_and_none_stays_none() -> None:
    fields: list[dict[str, Any]] = [{}, {"requirements": ["numpy", "-r /all/more.txt"]}, {"user_managed": True}]
    for taken in [*fields, {"interpreter_path": "/p"}]:
        assert completed(spec(environment=job_pb2.Environment(**taken))).environment == job_pb2.Environment(**taken)
    assert not completed(spec()).HasField("environment")
