"""Planning on its thread: what is listed is durable before it is told, in order, whatever the pace."""

from __future__ import annotations

import queue
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from batchmesh.data.slices import decode_slice
from batchmesh.scheduler import tables
from batchmesh.scheduler.events import PlanGrew, PlanningFailed
from batchmesh.scheduler.planner import PlanRequest
from batchmesh.scheduler.planning import Planning
from batchmesh.scheduler.store import Store
from tests.unit.scheduler.database import add_job

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh.scheduler.events import Event
    from batchmesh.scheduler.planning import PlanRow

#: Seconds within which any listing here ends.
PATIENCE = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(300):
        path = tmp_path / "in" / f"{number % 3}" / f"{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


@pytest.mark.parametrize("ahead", [0, 10**9])
def test_an_input_is_planned_whole_however_far_the_listing_is_ahead_of_its_job(folder: Path, ahead: int) -> None:
    said: queue.Queue[Event] = queue.Queue()
    planned: list[PlanRow] = []

    def on_planned(grew: PlanGrew, rows: list[PlanRow]) -> None:
        on_record = store.read(lambda db: tables.planned(db, row.number, [each[1] for each in rows])).result()
        assert [each.payload for each in on_record] == [each[4] for each in rows], "told before it was durable"
        planned.extend(rows)
        said.put(grew)

    with closing(Store(folder.parent / "state")) as store:
        row = add_job(store)
        request = PlanRequest(inputs=(str(folder),), kind="files", mini_batch_size=1)
        planning = Planning(row, request, store, on_planned, said.put, lambda: ahead)
        ended = False
        while not ended:
            event = said.get(timeout=PATIENCE)
            assert isinstance(event, PlanGrew), event
            ended = event.ended
        planning.stop(PATIENCE)
        found = store.read(lambda db: tables.find_job(db, row.job_id)).result()
    paths = [path for each in planned for path in decode_slice(each[4])["files"]]
    assert paths == sorted(map(str, folder.rglob("*.txt")))
    assert found is not None
    assert (found.planned, found.planned_items, found.planning_ended) == (300, 300, 1)


def test_a_listing_that_fails_says_so(folder: Path) -> None:
    said: queue.Queue[Event] = queue.Queue()
    with closing(Store(folder.parent / "state")) as store:
        row = add_job(store)
        request = PlanRequest(inputs=(str(folder / "gone"),), kind="files")
        Planning(row, request, store, lambda *_: None, said.put, lambda: 0)
        event = said.get(timeout=PATIENCE)
    assert isinstance(event, PlanningFailed)
    assert "gone' does not exist" in event.failure.message
