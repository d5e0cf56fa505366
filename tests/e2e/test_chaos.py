"""A short storm: what `make chaos` does for minutes, with faults that need no tool and no root."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.faults import Kind
from tests.chaos.mesh import ChaosMesh
from tests.chaos.trial import Trial

if TYPE_CHECKING:
    from pathlib import Path

#: These need tools, or root: `make chaos` has them.
WITHOUT = frozenset({Kind.DISK_FULL, Kind.SYNC_FAILS, Kind.CLOCK_JUMPS})


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [483])
def test_the_output_is_the_plain_loops_whatever_died_on_the_way(tmp_path: Path, seed: int) -> None:
    history: list[str] = []
    try:
        with ChaosMesh(tmp_path, without=WITHOUT) as mesh:
            Trial(mesh, seed, budget=12, seconds=6.0, say=history.append).run()
    except BaseException:
        print("\n".join(history))  # noqa: T201 pytest shows it with the failure
        raise
    for victim in ("scheduler", "agent0"):
        assert any(line.startswith(f"SIGKILL: {victim}") for line in history)
