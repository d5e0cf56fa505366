"""The tutorial's program against Azurite, with its environment made from the package index: by both names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.components.tools import CLONE

AZURITE = Path(__file__).parent / "azurite"


@pytest.mark.timeout(900)
def test_the_tutorial_runs_against_azurite_by_both_names(tmp_path: Path) -> None:
    if not (AZURITE / "node_modules").is_dir():
        pytest.skip("Azurite is not installed: npm install --no-package-lock --prefix tests/components/azurite")
    options = ["--work", str(tmp_path), "--count", "100", "--azurite", str(AZURITE)]
    command = [sys.executable, str(CLONE / "examples" / "article" / "demo.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [next((tmp_path / name).rglob("parallel_run_step.txt")) for name in ("azureml", "batchmesh")]
    images = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert [line.split(": ")[0] for line in results[0].read_text().splitlines()] == images
    assert results[0].read_bytes() == results[1].read_bytes()
    assert done.stdout.count("images are named rightly") == 2
