"""A job with requirements of its own, from the command line to the rows; and one whose requirements cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.cli import main
from batchmesh.python_environment import PythonEnvironment
from tests.support.story import failed, run_job, write_files, write_script
from tests.support.wheels import write_wheel

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support.mesh import Mesh

TINY = """
    import tinypack

    def run(mini_batch):
        return [tinypack.NAME for path in mini_batch]
"""


def test_a_script_finds_what_its_requirements_name(
    mesh: Mesh, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = write_wheel(tmp_path, "tinypack", "NAME = 'tiny'\n")
    (tmp_path / "needs.txt").write_text(f"# offline\n--no-index\n{wheel}\n")
    write_files(tmp_path / "in", 3)
    script = write_script(tmp_path, TINY)
    places = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--scheduler", mesh.address]

    assert main(["run", str(script), *places, "--environment", str(tmp_path / "needs.txt")]) == 0, capsys.readouterr()

    assert (tmp_path / "out" / "parallel_run_step.txt").read_text() == "tiny\n" * 3


def test_requirements_that_cannot_be_installed_fail_the_job_before_any_mini_batch(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 3)
    wanted = PythonEnvironment("mine", ("--no-index", "nobody-has-this==7"))

    job = failed(
        run_job(mesh.address, write_script(tmp_path, TINY), tmp_path / "in", tmp_path / "out", environment=wanted)
    )

    assert job.error is not None
    assert job.error.kind == "ENVIRONMENT"
    assert job.error.message.startswith("The environment 'mine' cannot be made: ")
    assert "nobody-has-this==7" in job.error.message.partition("said last:")[2]
    assert job.progress.ended_mini_batches == job.progress.retried_attempts == 0


def test_a_table_without_pandas_in_the_environment_fails_the_job_before_any_mini_batch(
    mesh: Mesh, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n")
    script = write_script(tmp_path, "def run(frame):\n    return frame\n")

    wanted = PythonEnvironment("bare")
    job = failed(run_job(mesh.address, script, tmp_path / "in.csv", tmp_path / "out", environment=wanted))

    assert job.error is not None
    assert job.error.message == (
        "The environment 'bare' has no pandas and no pyarrow, which table input and .csv and .parquet output need; "
        "add what is missing to its requirements."
    )
