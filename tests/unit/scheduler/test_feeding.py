"""The window of a plan that is open: fed in order, each mini-batch once, whoever asked for it first."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batchmesh.data.slices import decode_slice, encode_slice
from batchmesh.scheduler.events import Event, MiniBatchesPlanned
from batchmesh.scheduler.feeding import Feed
from batchmesh.scheduler.jobs import JobRecord
from batchmesh.scheduler.model import MiniBatch
from batchmesh.scheduler.store import Store
from batchmesh.v1 import job_pb2
from tests.unit.scheduler.database import FAILED, ITEMS, add_job, add_plan, part, whole, write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from pathlib import Path

    from batchmesh.scheduler.tables import JobRow

SPEC = job_pb2.JobSpec(run_max_try=3, isolate_failures=True).SerializeToString()


class Fed:
    """A feed, and what it told."""

    def __init__(self, store: Store, row: JobRow, window: int) -> None:
        self.told: list[MiniBatchesPlanned] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.feed = Feed(JobRecord(row, None), store, window, self.tell, self.spawn)

    def tell(self, event: Event) -> None:
        assert isinstance(event, MiniBatchesPlanned)
        self.told.append(event)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def go_on(self) -> None:
        """Feeds until nothing is being read."""
        self.feed.go_on()
        while self.tasks:
            await self.tasks.pop()

    @property
    def fed(self) -> list[int]:
        return [each.index for event in self.told for each in event.mini_batches]


@contextmanager
def planned(folder: Path, count: int, payload: bytes = b"payload") -> Iterator[tuple[Store, JobRow]]:
    store = Store(folder)
    row = add_job(store, spec=SPEC)
    add_plan(store, row, count, payload)
    yield store, row
    store.close()


def run(folder: Path, count: int, story: Callable[[Fed, Store, JobRow], Awaitable[None]], window: int = 4096) -> Fed:
    """What was told in a story about the feed of a job of `count` mini-batches."""
    with planned(folder, count) as (store, row):

        async def told() -> Fed:
            fed = Fed(store, row, window)
            await story(fed, store, row)
            return fed

        return asyncio.run(told())


def test_a_plan_is_fed_in_order_as_far_as_the_window_goes(tmp_path: Path) -> None:
    async def story(fed: Fed, store: Store, row: JobRow) -> None:
        await fed.go_on()
        assert fed.fed == list(range(4096))
        assert fed.feed.ahead == 7000 - 4096
        fed.feed.settle(range(3000))
        await fed.go_on()

    assert run(tmp_path, 7000, story).fed == list(range(4096 + 2048))


def test_what_is_settled_is_not_fed_and_a_try_that_failed_is_remembered(tmp_path: Path) -> None:
    async def story(fed: Fed, store: Store, row: JobRow) -> None:
        write(store, whole(row, 0), whole(row, 1, FAILED, final=False, tries=2), whole(row, 2, FAILED))
        await fed.go_on()

    (told,) = run(tmp_path, 4, story).told
    assert told.mini_batches == [MiniBatch(1, ITEMS, tries=2, ended=7), MiniBatch(3, ITEMS)]


def test_a_search_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    async def story(fed: Fed, store: Store, row: JobRow) -> None:
        write(store, whole(row, 0, FAILED, final=False, tries=3))
        write(store, part(row, 1, 0, 4, 1, 2), part(row, 1, 4, 4, 1, 2, FAILED))
        await fed.go_on()

    (told,) = run(tmp_path, 2, story).told
    assert told.mini_batches == []
    parts = [[(each.index, each.first, each.items, each.level) for each in found.open] for found in told.isolations]
    assert parts == [[(0, 0, 4, 1), (0, 4, 4, 1)], [(1, 4, 2, 2), (1, 6, 2, 2)]]


def test_what_a_node_holds_is_opened_once_and_not_fed_again(tmp_path: Path) -> None:
    async def story(fed: Fed, store: Store, row: JobRow) -> None:
        write(store, whole(row, 0), whole(row, 2, FAILED, final=False))
        opened, isolations = await fed.feed.opened_for({0, 2, 5, 99})
        assert [(each.index, each.tries) for each in opened] == [(2, 1), (5, 0)]
        assert isolations == []
        assert await fed.feed.opened_for({2, 5}) == ([], [])
        fed.feed.settle([2])
        await fed.go_on()

    assert run(tmp_path, 8, story).fed == [1, 3, 4, 6, 7]


def test_what_was_fed_is_not_opened_for_a_node_even_when_it_has_settled(tmp_path: Path) -> None:
    async def story(fed: Fed, store: Store, row: JobRow) -> None:
        await fed.go_on()
        fed.feed.settle([1])
        assert await fed.feed.opened_for({1, 2}) == ([], [])

    assert run(tmp_path, 3, story).fed == [0, 1, 2]


def test_a_node_and_the_plan_that_ask_at_the_same_time_open_nothing_twice(tmp_path: Path) -> None:
    async def story(fed: Fed, store: Store, row: JobRow) -> None:
        first = asyncio.ensure_future(fed.feed.opened_for({1, 3}))
        fed.feed.go_on()
        second = asyncio.ensure_future(fed.feed.opened_for({0, 3}))
        held = [each.index for found in await asyncio.gather(first, second) for each in found[0]]
        await fed.go_on()
        assert sorted(held + fed.fed) == [0, 1, 2, 3, 4]

    run(tmp_path, 5, story)


def test_what_one_node_held_and_has_settled_is_not_opened_for_another_that_asked_meanwhile(tmp_path: Path) -> None:
    async def story(fed: Fed, store: Store, row: JobRow) -> None:
        settled = threading.Event()

        async def hold_back() -> None:
            await asyncio.wrap_future(store.read(lambda db: settled.wait(20)))

        between = [asyncio.ensure_future(hold_back())]  # there are two readers, who take these in order
        first = asyncio.ensure_future(fed.feed.opened_for({3}))
        between.append(asyncio.ensure_future(hold_back()))
        second = asyncio.ensure_future(fed.feed.opened_for({3}))
        assert [each.index for each in (await first)[0]] == [3]
        fed.feed.settle([3])
        settled.set()
        assert await second == ([], [])
        await asyncio.gather(*between)

    run(tmp_path, 5, story)


def test_a_job_that_has_ended_is_told_nothing_of_what_was_being_read(tmp_path: Path) -> None:
    async def story(fed: Fed, store: Store, row: JobRow) -> None:
        fed.feed.go_on()
        fed.feed.close()
        await fed.go_on()

    assert run(tmp_path, 5, story).told == []


def test_a_part_travels_as_the_part_of_its_slice(tmp_path: Path) -> None:
    files = encode_slice({"kind": "files", "files": list("abcdefgh")})
    with planned(tmp_path, 1, files) as (store, row):

        async def sent() -> list[Any]:
            fed = Fed(store, row, 4096)
            await fed.go_on()
            parts = [MiniBatch(0, ITEMS), MiniBatch(0, 3, first=2, level=2)]
            return [decode_slice(fed.feed.payload(each)[0])["files"] for each in parts]

        assert asyncio.run(sent()) == [list("abcdefgh"), ["c", "d", "e"]]
