"""The cache of fetched files: what it keeps, shares, bounds and refuses."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from batchmesh.datastores.cache import Cache, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MB = 2**20


class Fetches:
    """Makes files of a megabyte, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, to: Path) -> None:
        self.count += 1
        to.write_bytes(bytes(MB))


@pytest.fixture
def fetch() -> Fetches:
    return Fetches()


def kept(cache: Cache, *names: str) -> list[str]:
    """Those of these names that are there."""
    found = []
    for name in names:
        held = cache.find((name,), name)
        if held is not None:
            found.append(name)
            held.release()
    return found


def test_a_file_is_fetched_once_and_keeps_its_name(tmp_path: Path, fetch: Fetches) -> None:
    cache = Cache(tmp_path, 10 * MB)
    held = [cache.hold(("store", "in/a.png", "1"), "a.png", MB, fetch) for _ in range(3)]
    assert fetch.count == 1
    assert held[0].path.name == "a.png"
    assert {each.path for each in held} == {held[0].path}
    assert cache.hold(("store", "in/a.png", "2"), "a.png", MB, fetch).path != held[0].path
    assert fetch.count == 2


def test_all_that_ask_at_once_share_one_fetch(tmp_path: Path, fetch: Fetches) -> None:
    cache = Cache(tmp_path, 10 * MB)
    together = threading.Barrier(8)

    def hold(_: int) -> Path:
        together.wait(30)
        return cache.hold(("a",), "a", MB, fetch).path

    with ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(hold, range(8)))
    assert len(paths) == 1
    assert fetch.count == 1


def test_what_was_used_longest_ago_goes_first_and_what_is_held_stays(tmp_path: Path, fetch: Fetches) -> None:
    cache = Cache(tmp_path, 3 * MB)
    held = {name: cache.hold((name,), name, MB, fetch) for name in "abc"}
    for name in "bc":
        held[name].release()
    assert kept(cache, "b") == ["b"]  # used again: c is now the least recently used of those that may go
    cache.hold(("d",), "d", MB, fetch)
    assert kept(cache, *"abcd") == ["a", "b", "d"]
    assert held["a"].path.exists()
    assert not held["c"].path.exists()


def test_the_limit_is_exceeded_only_by_what_is_held(tmp_path: Path, fetch: Fetches) -> None:
    cache = Cache(tmp_path, 2 * MB)
    held = [cache.hold((name,), name, MB, fetch) for name in "abcd"]
    assert kept(cache, *"abcd") == list("abcd")
    for each in held:
        each.release()
        each.release()
    assert kept(cache, *"abcd") == ["c", "d"]


def test_what_would_never_fit_is_refused_before_it_is_fetched(tmp_path: Path, fetch: Fetches) -> None:
    with pytest.raises(TooLarge, match="it is 1,048,577 bytes, and what is fetched may take 1,048,576"):
        Cache(tmp_path, MB).hold(("a",), "a", MB + 1, fetch)
    assert fetch.count == 0


def test_a_fetch_that_failed_leaves_nothing_and_may_be_tried_again(tmp_path: Path, fetch: Fetches) -> None:
    cache = Cache(tmp_path, 10 * MB)

    def fail(to: Path) -> None:
        to.write_bytes(b"half")
        raise OSError("cut")

    with pytest.raises(OSError, match="cut"):
        cache.hold(("a",), "a", MB, fail)
    assert list(tmp_path.iterdir()) == []
    assert cache.hold(("a",), "a", MB, fetch).path.stat().st_size == MB


def _truncate(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [_truncate, lambda path: path.unlink()])
def test_a_file_that_a_script_has_spoilt_is_fetched_again(
    tmp_path: Path, fetch: Fetches, spoil: Callable[[Path], None]
) -> None:
    cache = Cache(tmp_path, 10 * MB)
    first = cache.hold(("a",), "a", MB, fetch)
    assert first.path.stat().st_mode & 0o222 == 0
    first.release()
    spoil(first.path)
    assert cache.hold(("a",), "a", MB, fetch).path.stat().st_size == MB
    assert fetch.count == 2


def test_another_life_finds_what_was_there_and_clears_what_was_half_there(tmp_path: Path, fetch: Fetches) -> None:
    for name in "ab":
        Cache(tmp_path, 10 * MB).hold((name,), name, MB, fetch)
    (tmp_path / ".left").mkdir()
    cache = Cache(tmp_path, 10 * MB)
    assert kept(cache, *"ab") == ["a", "b"]
    assert not (tmp_path / ".left").exists()
    assert len(kept(Cache(tmp_path, MB), *"ab")) == 1
