"""What a client checks of a job before any mesh sees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from batchmesh.errors import SpecRefused
from batchmesh.python_environment import PythonEnvironment
from batchmesh.submission import Settings, Submission


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "score.py"
    path.write_text("def run(mini_batch): return mini_batch")
    return path


def test_paths_become_absolute_and_urls_stay(script: Path) -> None:
    spec = Submission.prepare(script, ["images", "s3://bucket/x"], "scores").spec
    assert spec.inputs == (os.path.abspath("images"), "s3://bucket/x")
    assert spec.output == os.path.abspath("scores")


def test_one_input_needs_no_list(script: Path) -> None:
    assert Submission.prepare(script, "images", "scores").spec.inputs == (os.path.abspath("images"),)


def test_settings_reach_the_spec(script: Path) -> None:
    settings: Settings = {
        "mini_batch_size": 5,
        "output_action": "Summary_Only",
        "input_type": "csv",
        "arguments": ["--task_overhead_timeout", "7", "--model", "m"],
        "error_threshold": None,
    }
    spec = Submission.prepare(script, "in", "out", **settings).spec
    assert (spec.mini_batch_size, spec.output_action, spec.input_kind) == ("5", "summary_only", "csv")
    assert (spec.arguments, spec.task_overhead_timeout, spec.error_threshold) == (("--model", "m"), 7.0, None)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"minibatch_size": 5}, "did you mean 'mini_batch_size'"),
        ({"output_action": "print"}, "append_row or summary_only"),
        ({"input_type": "xml"}, "files, csv, parquet or jsonl"),
        ({"task_overhead_timeout": 5.0, "arguments": ["--task_overhead_timeout", "7"]}, "given twice"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(script: Path, settings: Any, sentence: str) -> None:
    with pytest.raises(SpecRefused, match=sentence):
        Submission.prepare(script, "in", "out", **settings)


def test_a_reference_is_kept_as_it_is_and_one_that_a_path_has_spoilt_is_refused(tmp_path: Path, script: Path) -> None:
    assert Submission.prepare(script, "in", "datastore://blobs/out").spec.output == "datastore://blobs/out"
    with pytest.raises(SpecRefused, match="give datastore://NAME/PATH as text"):
        Submission.prepare(script, "in", Path("datastore://blobs/out"))


def test_a_given_source_directory_keeps_the_jobs_data(tmp_path: Path, script: Path) -> None:
    assert Submission.prepare(script, tmp_path / "in", tmp_path / "out").source.leave_out
    kept = Submission.prepare("score.py", tmp_path / "in", tmp_path / "out", source_directory=tmp_path)
    assert not kept.source.leave_out


def test_a_file_of_requirements_is_an_environment_of_its_lines(tmp_path: Path, script: Path) -> None:
    (tmp_path / "needs.txt").write_text("# ours\n numpy==2.0 \n\npandas  # for tables\n")
    wanted = Submission.prepare(script, "in", "out", environment=tmp_path / "needs.txt").spec.environment
    assert wanted == PythonEnvironment("needs.txt", ("numpy==2.0", "pandas  # for tables"))
    with pytest.raises(SpecRefused, match=r"gone\.txt cannot be read: No such file or directory"):
        Submission.prepare(script, "in", "out", environment="gone.txt")


@pytest.mark.parametrize("name", ["", "a=b", "a\0b"])
def test_a_variable_that_no_process_can_have_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "s.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    with pytest.raises(SpecRefused, match="environment_variables"):
        Submission.prepare(tmp_path / "s.py", tmp_path, tmp_path / "out", environment_variables={name: "x"})


def test_a_path_that_is_not_utf8_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    with pytest.raises(SpecRefused, match="name the folder"):
        Submission.prepare(tmp_path / "s.py", f"{tmp_path}/caf\udce9", tmp_path / "out")
