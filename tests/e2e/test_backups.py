"""What takes far longer than the others runs a second time where a worker is free, and the first one to end wins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.counted import Counted
from tests.support.mesh import Mesh
from tests.support.story import succeeded, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The first run of one item takes HANG seconds, after it has said which process it is.
HANGS_ONCE = """
    def suffer(mini_batch):
        if not mini_batch[0].endswith("item-00003.txt"):
            return
        try:
            with open(os.environ["HANGS"], "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return
        time.sleep(float(os.environ["HANG"]))
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Mesh(tmp_path_factory.mktemp("mesh"), agents=2) as mesh:
        yield mesh


def test_a_run_that_hangs_once_is_run_beside_and_then_ended(mesh: Mesh, tmp_path: Path) -> None:
    story = Counted(tmp_path, 20, HANGS_ONCE, HANGS=tmp_path / "hangs", HANG=600)
    job = story.run(mesh.address, backup_attempts=None, run_invocation_timeout=600, run_max_try=1)
    story.is_right(job)
    assert job.progress.retried_attempts == 0
    assert story.runs() == {path.name: 1 + (path.name == "item-00003.txt") for path in story.paths}
    hung = Path("/proc") / (tmp_path / "hangs").read_text()
    wait_for(lambda: not hung.exists(), "the end of the slower run")


@pytest.mark.parametrize("settings", [{"output_action": "summary_only"}, {"backup_attempts": False}], ids=str)
def test_nothing_runs_beside_where_the_script_writes_itself_or_it_is_switched_off(
    mesh: Mesh, tmp_path: Path, settings: dict[str, object]
) -> None:
    story = Counted(tmp_path, 20, HANGS_ONCE, HANGS=tmp_path / "hangs", HANG=4)
    succeeded(story.run(mesh.address, **{"backup_attempts": None, **settings}))
    story.ran_once_each()
