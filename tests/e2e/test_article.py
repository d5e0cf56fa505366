"""The tutorial's program over a local datastore, by azureml's names and by ours: as its example is run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ARTICLE = Path(__file__).parents[2] / "examples" / "article"


@pytest.mark.timeout(180)
def test_the_tutorial_runs_over_a_local_datastore_by_both_names(tmp_path: Path) -> None:
    command = [sys.executable, str(ARTICLE / "demo.py"), "--local", "--work", str(tmp_path), "--count", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [next((tmp_path / name).rglob("parallel_run_step.txt")) for name in ("azureml", "batchmesh")]
    images = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert [line.split(": ")[0] for line in results[0].read_text().splitlines()] == images
    assert results[0].read_bytes() == results[1].read_bytes()
    assert done.stdout.count("images are named rightly") == 2


def test_both_programs_are_the_same_but_for_their_imports() -> None:
    first, second = (_without_imports(ARTICLE / name) for name in ("tutorial.py", "tutorial_batchmesh.py"))
    assert first == second


def _without_imports(path: Path) -> list[str]:
    _, *statements = ast.parse(path.read_text()).body
    return [ast.dump(each) for each in statements if not isinstance(each, ast.Import | ast.ImportFrom)]
