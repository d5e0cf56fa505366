"""The benchmark is a folder of scripts; its pure parts are imported by the names that they have among themselves."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
