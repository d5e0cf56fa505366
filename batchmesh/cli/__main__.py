"""`python -m batchmesh.cli`."""

from __future__ import annotations

from batchmesh.cli import program

program()
