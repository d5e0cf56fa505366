"""Artifacts and which of them go when there are too many bytes."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from batchmesh.errors import DiskFull, NoArtifact
from batchmesh.storage.artifacts import GRACE, Artifacts

if TYPE_CHECKING:
    from pathlib import Path

NOW = 2_000_000_000.0


def add(artifacts: Artifacts, folder: Path, data: bytes, used: float) -> str:
    """Keeps `data`, last used at that second; returns its digest."""
    digest = hashlib.sha256(data).hexdigest()
    new = artifacts.new(digest)
    new.write(data)
    new.keep()
    new.discard()
    os.utime(folder / digest[:2] / digest, (used, used))
    return digest


def test_the_least_recently_used_go_first_and_only_as_many_as_need_to(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path, 1000)
    old, middle, new = (
        add(artifacts, tmp_path, name * 100, NOW - age) for name, age in ((b"a", 9e5), (b"b", 8e5), (b"c", 7e5))
    )
    assert artifacts.trim([], 300, NOW) == (0, 300)
    assert artifacts.trim([], 200, NOW) == (1, 200)
    assert [artifacts.has(each) for each in (old, middle, new)] == [False, True, True]


def test_what_is_asked_for_counts_as_used(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path, 1000)
    old = add(artifacts, tmp_path, b"a" * 100, 1.0)
    add(artifacts, tmp_path, b"b" * 100, 2.0)
    artifacts.open(old).close()
    assert artifacts.trim([], 0, 3.0 + GRACE) == (1, 100)
    assert artifacts.has(old)


def test_what_is_asked_for_while_others_go_stays(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path, 1000)
    one, two = (add(artifacts, tmp_path, name * 100, NOW - 9e5) for name in (b"a", b"b"))

    class Asking(list[str]):
        """What is to be kept; a model that names the first artifact is registered while that is looked at."""

        def __contains__(self, digest: object) -> bool:
            assert artifacts.has(one)
            return False

    assert artifacts.trim(Asking(), 0, NOW) == (1, 100)
    assert (artifacts.has(one), artifacts.has(two)) == (True, False)


def test_what_jobs_may_ask_for_and_what_was_just_used_stays(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path, 1000)
    kept = add(artifacts, tmp_path, b"a" * 100, NOW - 9e5)
    recent = add(artifacts, tmp_path, b"b" * 100, NOW - GRACE + 1)
    gone = add(artifacts, tmp_path, b"c" * 100, NOW - GRACE - 1)
    for _ in range(2):
        artifacts.trim([kept], 0, NOW)
    assert [artifacts.has(each) for each in (kept, recent, gone)] == [True, True, False]
    with pytest.raises(NoArtifact):
        artifacts.open(gone)


def test_what_a_killed_storage_was_taking_in_is_gone_at_its_next_start(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path, 1000)
    kept = add(artifacts, tmp_path, b"a" * 100, NOW)
    (tmp_path / kept[:2] / ".new-half").write_bytes(b"aaa")
    again = Artifacts(tmp_path, 1000)
    assert os.listdir(tmp_path / kept[:2]) == [kept]
    assert again.has(kept)


def test_one_that_is_too_large_leaves_nothing(tmp_path: Path) -> None:
    new = Artifacts(tmp_path, 1000).new("ab" * 32)
    with pytest.raises(DiskFull):
        new.write(bytes(1001))
    new.discard()
    assert os.listdir(tmp_path / "ab") == []
