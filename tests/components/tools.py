"""The tools that the component tests need. A test is skipped only when its tool is not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[2]
NODE_CLIENT = Path(__file__).parent / "node_client"
_NODE_MODULES = NODE_CLIENT / "node_modules"
_NPM = "npm install --no-package-lock --prefix tests/components/node_client"


def tool(name: str, how: str) -> str:
    """The path of an installed command, or the test is skipped with `how` to install it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: {how}")
    return found


def node_modules() -> Path:
    """The installed modules of the Node client."""
    tool("node", "apt-get install nodejs npm")
    if not _NODE_MODULES.is_dir():
        pytest.skip(f"the Node client's modules are not installed: {_NPM}")
    return _NODE_MODULES


def buf() -> Path:
    """The buf command, one of the Node client's modules."""
    return node_modules() / ".bin" / "buf"


def output_of(*command: str | Path, cwd: Path = CLONE) -> str:
    """What a command prints; it fails the test with what it said if it does not succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout
