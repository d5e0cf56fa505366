"""`import batchmesh` happens in the user's environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import batchmesh


def test_importing_batchmesh_imports_nothing_heavy() -> None:
    code = "import batchmesh, sys; print(*sorted(n for n in sys.modules if n.startswith('batchmesh.') or n in HEAVY))"
    heavy = "HEAVY = ('grpc', 'google', 'pandas', 'numpy', 'click', 'rich', 'asyncio', 'structlog', 'tenacity')\n"
    assert (
        subprocess.run([sys.executable, "-c", heavy + code], capture_output=True, text=True, check=True).stdout == "\n"
    )


def test_every_public_name_is_there() -> None:
    for name in batchmesh.__all__:
        assert getattr(batchmesh, name) is not None
    assert batchmesh.__version__.count(".") == 2


def test_the_package_itself_is_python_3_9() -> None:
    ast.parse(Path(batchmesh.__file__).read_text(), feature_version=(3, 9))
