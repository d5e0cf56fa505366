"""Files and folders of a remote datastore on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchmesh.datastores.cache import Cache
from batchmesh.datastores.staging import Staging
from batchmesh.errors import InputRefused
from tests.support.memory_datastore import MemoryDatastore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def blobs() -> MemoryDatastore:
    return MemoryDatastore()


@pytest.fixture
def staging(tmp_path: Path, blobs: MemoryDatastore) -> Staging:
    return Staging(Cache(tmp_path, 2**20), "default", blobs)


def test_a_file_is_had_as_it_is_now(staging: Staging, blobs: MemoryDatastore) -> None:
    blobs.put("in/a.txt", "one")
    first = staging.file_or_folder("in/a.txt")
    assert (first.held.path.name, first.held.path.read_text()) == ("a.txt", "one")
    assert staging.file_or_folder("in/a.txt").held.path == first.held.path
    blobs.put("in/a.txt", "two")
    assert staging.file_or_folder("in/a.txt").held.path.read_text() == "two"
    assert blobs.downloads == ["in/a.txt"] * 2


def test_a_stamp_asks_for_the_file_of_that_time_alone(staging: Staging, blobs: MemoryDatastore) -> None:
    blobs.put("a.csv", "one")
    stamp = staging.file("a.csv").stamp
    blobs.put("a.csv", "two")
    assert staging.file("a.csv", stamp).held.path.read_text() == "one"  # it is still here
    blobs.put("b.csv", "one")
    with pytest.raises(InputRefused, match="no longer what it was when the job was planned; submit the job again"):
        staging.file("b.csv", stamp)


def test_a_file_that_changes_while_it_is_fetched_is_never_taken_for_what_it_was(tmp_path: Path) -> None:
    class Changing(MemoryDatastore):
        def download(self, path: str, to: Path) -> None:
            self.put(path, "two")
            super().download(path, to)

    blobs = Changing()
    blobs.put("a.csv", "one")
    staging = Staging(Cache(tmp_path, 2**20), "default", blobs)
    (before,) = blobs.find("a.csv")
    assert staging.file_or_folder("a.csv").held.path.read_text() == "two"  # what is there now
    with pytest.raises(InputRefused, match="no longer what it was"):
        staging.file("a.csv", before.stamp)
    with pytest.raises(InputRefused, match="no longer what it was"):
        staging.file("a.csv")


def test_a_folder_is_all_that_lies_below_it(staging: Staging, blobs: MemoryDatastore) -> None:
    for path in ("words/de/a.txt", "words/en/a.txt", "words.txt"):
        blobs.put(path, path)
    staged = staging.file_or_folder("words/").held.path
    assert staged.name == "words"
    found = {str(each.relative_to(staged)): each.read_text() for each in staged.rglob("*.txt")}
    assert found == {"de/a.txt": "words/de/a.txt", "en/a.txt": "words/en/a.txt"}
    assert staging.file_or_folder("words").held.path == staged
    assert len(blobs.downloads) == 2
    blobs.put("words/en/a.txt", "other")
    assert (staging.file_or_folder("words").held.path / "en/a.txt").read_text() == "other"
    assert staging.file_or_folder("").held.path.name == blobs.name


def test_a_name_that_no_file_may_have_here_is_told(staging: Staging, blobs: MemoryDatastore) -> None:
    blobs.put("in/" + "ü" * 128, "text")
    with pytest.raises(InputRefused, match="its name is longer than a file's may be here; rename it"):
        staging.file("in/" + "ü" * 128)


@pytest.mark.parametrize("path", ["words/*.txt", "gone"])
def test_what_is_neither_a_file_nor_a_folder_is_refused(staging: Staging, blobs: MemoryDatastore, path: str) -> None:
    blobs.put("words/a.txt", "text")
    with pytest.raises(InputRefused):
        staging.file_or_folder(path)
