"""What an output depends on, and the words for what differs."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.scheduler import reuse, tables
from batchmesh.scheduler.model import State
from batchmesh.scheduler.spec import completed, reuse_settings
from batchmesh.scheduler.store import Store
from batchmesh.v1 import job_pb2
from tests.unit.scheduler.database import add_job

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILES = [(f"/in/{number}", number, "1") for number in range(14)]
SPEC: dict[str, Any] = {"entry_script": "s.py", "source_digest": "d", "inputs": ["/in"], "output": "/out"}
DIGEST = "0" * 64
KIN = reuse.Kin("w", "s.py", "step")


def listing(files: Iterable[tuple[str, int, str]]) -> reuse.Listing:
    found = reuse.Listing()
    for each in files:
        found.add(*each)
    return found


def parts(files: Iterable[tuple[str, int, str]] = FILES, kind: int = 1, **spec: Any) -> reuse.Parts:
    settings = reuse_settings(completed(job_pb2.JobSpec(**{**SPEC, **spec})), kind)
    return reuse.parts_of(settings, listing(files))


def test_the_same_files_named_by_other_inputs_are_another_input() -> None:
    one, two = listing(FILES[:2]), listing(FILES[:1])
    two.begin_input()
    two.add(*FILES[1])
    assert one.hashes == two.hashes
    assert one.digest != two.digest


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source_digest": "e"}, "the script's source"),
        ({"arguments": ["--a", "b"]}, "the arguments"),
        ({"environment": job_pb2.Environment(requirements=["x==1"])}, "the environment"),
        ({"models": [job_pb2.JobModel(name="m", version=2, digest=DIGEST)]}, "the models"),
        ({"side_inputs": [job_pb2.SideInput(name="labels", digest=DIGEST)]}, "the side inputs"),
        ({"environment_variables": {"A": "1"}}, "the environment variables"),
        ({"mini_batch_size": "3"}, "the mini-batch size"),
        ({"kind": 2}, "the kind of the input"),
        ({"csv_header": "absent"}, "the csv settings"),
        ({"csv_types": {"a": "string"}}, "the csv settings"),
        ({"append_row_file_name": "o.csv"}, "the settings of the output"),
        ({"output_action": job_pb2.OUTPUT_ACTION_SUMMARY_ONLY}, "the settings of the output"),
        ({"append_row_dataframe_header": True}, "the settings of the output"),
        ({"dataframe_to_csv_json": "{}"}, "the settings of the output"),
        ({"source_digest": "e", "mini_batch_size": "3"}, "the script's source, the mini-batch size"),
    ],
)
def test_what_the_output_depends_on_changes_the_key_and_is_told(changed: dict[str, Any], words: str) -> None:
    now, then = parts(**changed), parts()
    assert now.key != then.key
    assert reuse.changes(now, then) == words


@pytest.mark.parametrize(
    "changed",
    [
        {"node_count": 3, "process_count_per_node": 2, "compute_target": "cpu"},
        {"run_invocation_timeout": 1.0, "task_overhead_timeout": 1.0, "progress_update_timeout": 9.0},
        {"first_task_creation_timeout": 1.0, "run_max_try": 9, "isolate_failures": False, "backup_attempts": True},
        {"error_threshold": 5, "allowed_failed_count": 5, "allowed_failed_percent": 5.0},
        {"logging_level": "DEBUG", "output": "/elsewhere", "overwrite": True},
        {"workspace": "w", "pipeline_run": "r", "experiment": "e", "step_name": "s", "after": ["x"]},
        {"allow_reuse": True},
    ],
)
def test_what_the_output_does_not_depend_on_changes_nothing(changed: dict[str, Any]) -> None:
    assert parts(**changed).key == parts().key


def test_every_setting_of_a_job_either_counts_or_does_not() -> None:
    """A new one has to be put on one of the two sides."""
    counts = {
        *("source_digest", "entry_script", "arguments", "environment", "models", "side_inputs"),
        *("environment_variables", "mini_batch_size", "input_kind", "csv_header", "csv_types", "output_action"),
        *("append_row_file_name", "append_row_dataframe_header", "dataframe_to_csv_json", "inputs"),
        "input_sizes",
    }
    does_not = {
        *("output", "overwrite", "error_threshold", "allowed_failed_count", "allowed_failed_percent"),
        *("process_count_per_node", "node_count", "run_invocation_timeout", "run_max_try", "task_overhead_timeout"),
        *("progress_update_timeout", "first_task_creation_timeout", "logging_level", "isolate_failures"),
        *("backup_attempts", "workspace", "compute_target", "allow_reuse", "after"),
        *("pipeline_run", "experiment", "step_name"),
    }
    assert counts | does_not == set(job_pb2.JobSpec.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("/in/0", 0, "2"), *FILES[1:]], "1 of 14 input files"),
        ([("/in/0", 7, "1"), ("/in/1", 7, "1"), *FILES[2:]], "2 of 14 input files"),
        ([*FILES, ("/in/x", 1, "1")], "1 of 15 input files"),
        ([*FILES[:-1], ("/in/x", 1, "1")], "1 of 14 input files"),
        (FILES[2:], "2 of 14 input files, which are gone"),
        (FILES[::-1], "the order of the input files, or their inputs"),
    ],
)
def test_files_that_differ_are_counted(files: list[tuple[str, int, str]], words: str) -> None:
    assert parts(files).key != parts().key
    assert reuse.changes(parts(files), parts()) == words


def test_of_many_files_only_the_digest_is_kept() -> None:
    many = [(f"/in/{number}", 1, "1") for number in range(20_000)]
    now, then = parts(many), parts(many[1:])
    assert now.hashes is None
    assert now.key != then.key
    assert reuse.changes(now, then) == "input files"


def test_a_name_and_its_stamp_cannot_be_taken_for_another_pair() -> None:
    assert listing([("/a 1", 2, "3")]).digest != listing([("/a", 1, "2 3")]).digest
    assert listing([("/a", 1, ""), ("/b", 1, "")]).digest != listing([("/a", 1, "/b 1")]).digest


def test_only_jobs_that_have_succeeded_are_found_the_newest_first(tmp_path: Path) -> None:
    one, other = parts(), parts(arguments=["--x", "1"])
    with closing(Store(tmp_path)) as store:
        for name, kept, state in (
            ("a", one, State.SUCCEEDED),
            ("b", one, State.SUCCEEDED),
            ("c", one, State.FAILED),
            ("d", other, State.SUCCEEDED),
        ):
            row = add_job(store, name)
            row.state = int(state)
            store.write([*tables.set_state(row), *reuse.keep(row.number, KIN, kept)]).result()

        def found(kin: reuse.Kin) -> tuple[list[str], list[str]]:
            same = store.read(lambda db: [each.job_id for each in reuse.same(db, kin, one.key)]).result()
            return same, store.read(lambda db: [each.job_id for each in reuse.latest(db, kin)]).result()

        assert found(KIN) == (["b", "a"], ["d", "b", "a"])
        assert found(KIN._replace(step_name="other")) == (["b", "a"], [])
        assert found(KIN._replace(workspace="other")) == ([], [])
        (kept_parts,) = store.read(lambda db: [each.parts for each in reuse.latest(db, KIN)][:1]).result()
        assert kept_parts == other
        store.write([*reuse.forget(row.number), *tables.delete_job(2)]).result()
        assert found(KIN) == (["a"], ["a"])


def test_what_a_job_before_has_written_is_told_by_who_ran_and_how_often(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        for name, taken, again in (("a", "", 2), ("b", "a", 0), ("c", "gone", 0)):
            row = add_job(store, name, name.encode())
            row.reused_from, row.round = taken, again
            store.write(tables.set_state(row)).result()
        store.write(tables.add_job("job", b"", 1, 1.0, after=["a", "b", "c"])).result()
        found = store.read(lambda db: reuse.written_before(db, 4)).result()
        assert found == [("a 2", b"a"), ("a 2", b"b"), ("gone -1", b"c")]
