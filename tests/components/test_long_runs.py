"""What `make test` shows in small, at its full size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_deaths import LEASE, outlives_schedulers
from tests.support.counted import Counted
from tests.support.wired_mesh import WiredMesh

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(600)
def test_none_of_24000_mini_batches_runs_again_though_the_scheduler_dies_40_times(tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()
    with WiredMesh(tmp_path / "mesh", agents=2, lease=LEASE) as mesh:
        outlives_schedulers(mesh, Counted(tmp_path / "job", 24_000, SECONDS=0.005), mini_batches=600)
