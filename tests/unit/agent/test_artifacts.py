"""The cache of artifacts, against a storage that answers from memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.agent.artifacts import ArtifactDamaged, Artifacts
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


def kept_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_jobs_that_ask_at_once_share_one_fetch(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digest = storage.add_source({"score.py": "x = 1\n", "lib/a.py": ""})
        artifacts = Artifacts(tmp_path / "artifacts", 10_000, 5.0)
        folders = await asyncio.gather(*[artifacts.hold(stub, digest) for _ in range(5)])
        assert storage.reads == 1
        assert (folders[0] / "score.py").read_text() == "x = 1\n"
        assert (folders[0] / "lib" / "a.py").exists()

    with_storage(tmp_path, story)


def test_a_fetch_goes_on_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digest = storage.add_source({"score.py": ""})
        artifacts = Artifacts(tmp_path / "artifacts", 10_000, 5.0)
        leaving = asyncio.create_task(artifacts.hold(stub, digest))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert (await artifacts.hold(stub, digest)).is_dir()
        assert storage.reads == 1

    with_storage(tmp_path, story)


def test_the_least_recently_used_goes_first_and_one_in_use_never(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digests = [storage.add_source({"score.py": f"{number}" * 400}) for number in range(3)]
        artifacts = Artifacts(tmp_path / "artifacts", 900, 5.0)
        for digest in digests:
            await artifacts.hold(stub, digest)
        assert kept_in(tmp_path / "artifacts") == set(digests)
        artifacts.release(digests[1])
        assert kept_in(tmp_path / "artifacts") == {digests[0], digests[2]}

    with_storage(tmp_path, story)


def test_a_later_agent_on_the_same_folder_fetches_nothing_again(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digest = storage.add_source({"score.py": ""})
        await Artifacts(tmp_path / "artifacts", 900, 5.0).hold(stub, digest)
        await Artifacts(tmp_path / "artifacts", 900, 5.0).hold(stub, digest)
        assert storage.reads == 1

    with_storage(tmp_path, story)


@pytest.mark.parametrize(("change", "error"), [("damaged", ArtifactDamaged), ("absent", NoArtifact)])
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
            await Artifacts(tmp_path / "artifacts", 900, 1.0).hold(stub, digest)
        assert list((tmp_path / "artifacts").iterdir()) == []

    with_storage(tmp_path, story)


def test_what_all_jobs_read_can_only_be_read(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digest = storage.add_source({"score.py": "x = 1\n", "lib/a.py": ""})
        folder = await Artifacts(tmp_path / "artifacts", 900, 5.0).hold(stub, digest)
        assert all(not path.stat().st_mode & 0o222 for path in folder.rglob("*.py"))

    with_storage(tmp_path, story)


def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    async def story(storage: TinyStorage, stub: Any) -> None:
        digest = storage.add_source({"../outside.py": "x"})
        with pytest.raises(ArtifactDamaged):
            await Artifacts(tmp_path / "artifacts", 900, 1.0).hold(stub, digest)
        assert not (tmp_path / "outside.py").exists()

    with_storage(tmp_path, story)
