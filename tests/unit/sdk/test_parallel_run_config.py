"""Each setting is checked where it is given, and refused in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from batchmesh import CondaDependencies, Environment, ParallelRunConfig
from batchmesh.errors import Refused, SpecRefused
from batchmesh.sdk import NotServed

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh import Workspace

#: No workspace is asked in these tests.
NOBODY = cast("Workspace", None)


def config(**given: Any) -> ParallelRunConfig:
    settings = {
        "environment": None,
        "entry_script": "score.py",
        "error_threshold": 10,
        "output_action": "append_row",
        "compute_target": None,
        "node_count": 4,
    }
    return ParallelRunConfig(**{**settings, **given})


def test_the_settings_of_the_article_become_those_of_a_job() -> None:
    settings = config(mini_batch_size="5", source_directory="code", process_count_per_node="2").settings()
    assert settings == {
        "source_directory": "code",
        "environment_variables": {},
        "mini_batch_size": "5",
        "output_action": "append_row",
        "append_row_file_name": None,
        "error_threshold": 10,
        "node_count": 4,
        "process_count_per_node": 2,
        "run_invocation_timeout": 60.0,
        "run_max_try": 3,
        "logging_level": "INFO",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("error_threshold", -2),
        ("error_threshold", 2**31),
        ("error_threshold", 1.5),
        ("error_threshold", True),
        ("output_action", "append_rows"),
        ("node_count", 0),
        ("node_count", "many"),
        ("process_count_per_node", 0),
        ("mini_batch_size", "5 files"),
        ("mini_batch_size", "0"),
        ("logging_level", "LOUD"),
        ("run_invocation_timeout", 0),
        ("run_invocation_timeout", 259_201),
        ("run_max_try", 0),
        ("append_row_file_name", "a/b.txt"),
        ("append_row_file_name", ""),
        ("append_row_file_name", 5),
        ("allowed_failed_count", -2),
        ("allowed_failed_percent", 101),
        ("allowed_failed_percent", -1),
        ("environment", "batch"),
        ("compute_target", 7),
        ("entry_script", ""),
        ("environment_variables", {"A": 1}),
        ("environment_variables", "A"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(SpecRefused) as refused:
        config(**{name: value})
    assert str(refused.value).startswith(name)
    assert str(refused.value).endswith(".")
    assert list(refused.value.violations) == [name]


def test_texts_are_taken_in_any_case_and_numbers_as_texts() -> None:
    settings = config(output_action="SUMMARY_ONLY", logging_level="debug", node_count="2", allowed_failed_percent="0")
    assert settings.settings()["output_action"] == "summary_only"
    assert settings.settings()["logging_level"] == "DEBUG"
    assert settings.settings()["node_count"] == 2
    assert settings.settings()["allowed_failed_percent"] == 0.0


def test_a_setting_that_was_changed_afterwards_is_checked_again() -> None:
    changed = config()
    changed.run_max_try = 0
    with pytest.raises(SpecRefused, match="run_max_try"):
        changed.settings()


@pytest.mark.parametrize("nothing", [None, []])
def test_partition_keys_are_refused_until_they_are_served(nothing: Any) -> None:
    assert config(partition_keys=nothing).partition_keys is nothing
    with pytest.raises(NotServed, match="partition_keys"):
        config(partition_keys=["store"])


def test_a_config_comes_back_from_its_file(tmp_path: Path) -> None:
    environment = Environment("batch")
    environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["pillow"], python_version="3.9")
    environment.environment_variables = {"A": "1"}
    made = config(
        environment=environment, mini_batch_size="1MB", environment_variables={"B": "2"}, compute_target="cpu"
    )
    made.save_to_yaml(tmp_path / "config.yml")
    loaded = ParallelRunConfig.load_yaml(NOBODY, tmp_path / "config.yml")
    assert loaded.settings() == made.settings()
    assert loaded.target_name == "cpu"
    assert loaded.environment is not None
    assert loaded.environment.for_job() == environment.for_job()
    assert loaded.environment.environment_variables == {"A": "1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("- a", "no YAML mapping"), ("a: [", "no YAML"), ("entry_script: x.py", "lacks"), ("speed: 9", "'speed'")],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.yml").write_text(text)
    with pytest.raises(Refused, match=said):
        ParallelRunConfig.load_yaml(NOBODY, tmp_path / "config.yml")
    with pytest.raises(Refused, match="cannot be read"):
        ParallelRunConfig.load_yaml(NOBODY, tmp_path / "none.yml")
