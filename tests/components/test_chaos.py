"""The storm with all its faults: it takes root, for a small disk that fills up, and a C compiler for the preload."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.components.tools import CLONE, tool


@pytest.mark.timeout(900)
def test_sixty_faults_of_all_kinds_change_no_byte_of_any_output() -> None:
    tool("cc", "apt-get install gcc libc6-dev")
    if os.geteuid() != 0:
        pytest.skip("it takes root, to mount a small disk")
    command = [sys.executable, "-m", "tests.chaos", "--seed", "7", "--faults", "60"]
    done = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out" not in done.stdout
    assert "| **all faults** | **60** |" in done.stdout
