"""How results leave for storage, over real gRPC."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from batchmesh.agent.budget import Budget
from batchmesh.agent.runner import Result
from batchmesh.agent.storages import Storages
from batchmesh.agent.uploader import Uploader
from batchmesh.agent.waiting import Attempt
from tests.support.tiny_storage import TinyStorage

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds; nothing that waits for a pause is told of in a test's time.
LONG = 3600.0
PATIENCE = 60.0


def result(number: int, size: int) -> Result:
    attempt = Attempt(number, number, 1, b"", 0)
    return Result(attempt, 0, memoryview(bytes([number]) * size), 0, size, 1, 1, 0, 1, 1, 1)


async def told_of(address: str, sizes: list[int], pause: float) -> list[int]:
    """Attempts that storage has, of results of these sizes that come one after another, when all are told."""
    told: list[int] = []
    all_told = asyncio.Event()

    def tell(_segment: str, _offset: int, results: list[Result]) -> None:
        told.extend(each.attempt.attempt_id for each in results)
        if len(told) == len(sizes):
            all_told.set()

    budget, storages = Budget(2**30), Storages()
    uploader = Uploader(storages.at(address), "j", "s", budget, tell, lambda: pause, lambda _: None, PATIENCE)
    for number, size in enumerate(sizes):
        uploader.add([result(number, size)])
        await asyncio.sleep(0)
    await asyncio.wait_for(all_told.wait(), PATIENCE)
    assert budget.used == 0
    uploader.end()
    await storages.close()
    return told


def test_large_results_do_not_wait_for_a_pause(tmp_path: Path) -> None:
    async def story() -> tuple[list[int], int]:
        storage = TinyStorage()  # type: ignore[abstract]
        server = await storage.serve(f"unix:{tmp_path}/storage")
        told = await told_of(f"unix:{tmp_path}/storage", [2**20] * 8, LONG)
        await server.stop(None)
        return told, sum(map(len, storage.segments.values()))

    assert asyncio.run(story()) == (list(range(8)), 8 * 2**20)


def test_small_results_share_messages_while_one_is_on_its_way(tmp_path: Path) -> None:
    async def story() -> tuple[list[int], int]:
        storage = TinyStorage()  # type: ignore[abstract]
        server = await storage.serve(f"unix:{tmp_path}/storage")
        told = await told_of(f"unix:{tmp_path}/storage", [100] * 200, 0.0)
        await server.stop(None)
        return told, storage.messages

    told, messages = asyncio.run(story())
    assert told == list(range(200))
    assert messages < 200
