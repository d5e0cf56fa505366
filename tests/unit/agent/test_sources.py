"""The cache of source folders, against a storage that answers from memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.agent.sources import SourceDamaged, Sources
from batchmesh.agent.storages import Storages
from batchmesh.errors import NoArtifact
from tests.support.tiny_storage import TinyStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path


def with_storage(folder: Path, story: Callable[[TinyStorage, Any], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        storage = TinyStorage()  # type: ignore[abstract]
        server = await storage.serve(f"unix:{folder}/storage")
        storages = Storages()
        try:
            await story(storage, storages.at(f"unix:{folder}/storage"))
        finally:
            await storages.close()
            await server.stop(0)

    asyncio.run(play())


def test_jobs_that_ask_at_once_share_one_fetch(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digest = storage.add_source({"score.py": "x = 1\n", "lib/a.py": ""})
        sources = Sources(tmp_path / "sources", 10_000, 5.0)
        folders = await asyncio.gather(*[sources.hold(stub, digest) for _ in range(5)])
        assert storage.reads == 1
        assert (folders[0] / "score.py").read_text() == "x = 1\n"
        assert (folders[0] / "lib" / "a.py").exists()

    with_storage(tmp_path, story)


def test_the_least_recently_used_goes_first_and_one_in_use_never(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digests = [storage.add_source({"score.py": f"{number}" * 400}) for number in range(3)]
        sources = Sources(tmp_path / "sources", 900, 5.0)
        for digest in digests:
            await sources.hold(stub, digest)
        kept = {path.name for path in (tmp_path / "sources").iterdir()}
        assert kept == set(digests)
        sources.release(digests[1])
        assert {path.name for path in (tmp_path / "sources").iterdir()} == {digests[0], digests[2]}

    with_storage(tmp_path, story)


def test_a_later_agent_on_the_same_folder_fetches_nothing_again(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digest = storage.add_source({"score.py": ""})
        await Sources(tmp_path / "sources", 900, 5.0).hold(stub, digest)
        await Sources(tmp_path / "sources", 900, 5.0).hold(stub, digest)
        assert storage.reads == 1

    with_storage(tmp_path, story)


@pytest.mark.parametrize(("change", "error"), [("damaged", SourceDamaged), ("absent", NoArtifact)])
def test_what_is_not_the_named_artifact_is_refused_and_leaves_nothing(
    tmp_path: Path, change: str, error: type[Exception]
) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digest = storage.add_source({"score.py": ""})
        if change == "damaged":
            storage.artifacts[digest] += b"more"
        else:
            del storage.artifacts[digest]
        with pytest.raises(error):
            await Sources(tmp_path / "sources", 900, 1.0).hold(stub, digest)
        assert list((tmp_path / "sources").iterdir()) == []

    with_storage(tmp_path, story)


def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digest = storage.add_source({"../outside.py": "x"})
        with pytest.raises(SourceDamaged):
            await Sources(tmp_path / "sources", 900, 1.0).hold(stub, digest)
        assert not (tmp_path / "outside.py").exists()

    with_storage(tmp_path, story)
