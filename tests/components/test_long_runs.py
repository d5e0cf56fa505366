"""What `make test` shows in small, at its full size."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_deaths import LEASE, outlives_schedulers
from tests.support.counted import Counted
from tests.support.mesh import Mesh
from tests.support.story import adds_up, run_job, succeeded, write_script
from tests.support.wired_mesh import WiredMesh

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes that a service of a mesh may have used at most at any time.
MEMORY = 300_000_000
NAMES = """
    def run(mini_batch):
        return [path.rpartition("/")[2] for path in mini_batch]
"""


@pytest.mark.timeout(600)
def test_none_of_24000_mini_batches_runs_again_though_the_scheduler_dies_40_times(tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()
    with WiredMesh(tmp_path / "mesh", agents=2, lease=LEASE) as mesh:
        outlives_schedulers(mesh, Counted(tmp_path / "job", 24_000, SECONDS=0.005), mini_batches=600)


@pytest.fixture
def million_files(tmp_path: Path) -> Iterator[Path]:
    """Empty files 0000000 to 0999999, in folders of a thousand."""
    folder = tmp_path / "in"
    for thousand in range(1000):
        inner = folder / f"{thousand:03}"
        inner.mkdir(parents=True)
        for number in range(1000):
            os.mknod(inner / f"{thousand:04}{number:03}")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(1800)  # on a disk from which much was just deleted, a file takes half a millisecond to make
def test_a_million_mini_batches_in_one_job(tmp_path: Path, million_files: Path) -> None:
    script, output = write_script(tmp_path, NAMES), tmp_path / "out"
    with Mesh(tmp_path) as mesh:
        job = run_job(mesh.address, script, million_files, output, patience=600, mini_batch_size=1)
        assert {each.name: peak(each.process.pid) for each in mesh.services if peak(each.process.pid) > MEMORY} == {}
    succeeded(job)
    adds_up(job)
    assert job.progress.succeeded_items == 1_000_000
    with Path(job.output_path).open() as lines:
        assert all(line == f"{number:07}\n" for number, line in enumerate(lines))
    assert Path(job.output_path).stat().st_size == 8_000_000


def peak(pid: int) -> int:
    """The most resident memory that a process has had, in bytes."""
    found = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return next(int(fields[1]) * 1024 for fields in found if fields[0] == "VmHWM:")
