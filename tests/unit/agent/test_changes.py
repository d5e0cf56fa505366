"""What has changed in a folder: each file once, again when it is another one, and when it has gone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from batchmesh.agent.changes import Changes

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str, at: int = 1) -> None:
    """A file whose time is `at` seconds after 1970."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def told(changes: Changes) -> dict[str, bool]:
    """Names of all changes, and whether the file is there; each is told of."""
    found = list(changes.look())
    for each in found:
        changes.told(each)
    return {each.name: each.stamp is not None for each in found}


def test_a_file_is_told_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    changes = Changes(tmp_path)
    write(tmp_path / "a", "1")
    write(tmp_path / "deep" / "er" / "b", "1")
    assert told(changes) == {"a": True, "deep/er/b": True}
    assert told(changes) == {}
    write(tmp_path / "a", "2", at=2)
    assert told(changes) == {"a": True}
    write(tmp_path / "new", "2", at=2)
    (tmp_path / "new").replace(tmp_path / "a")
    assert told(changes) == {"a": True}


def test_a_file_that_has_gone_is_told_once(tmp_path: Path) -> None:
    changes = Changes(tmp_path)
    write(tmp_path / "deep" / "a", "1")
    told(changes)
    (tmp_path / "deep" / "a").unlink()
    (tmp_path / "deep").rmdir()
    assert told(changes) == {"deep/a": False}
    assert told(changes) == {}


def test_what_was_not_told_is_found_again(tmp_path: Path) -> None:
    changes = Changes(tmp_path)
    write(tmp_path / "a", "1")
    assert [each.name for each in changes.look()] == [each.name for each in changes.look()] == ["a"]


def test_a_file_of_this_moment_is_told_again_as_it_may_change_and_look_the_same(tmp_path: Path) -> None:
    changes = Changes(tmp_path)
    write(tmp_path / "a", "1")
    os.utime(tmp_path / "a")
    assert told(changes) == {"a": True}
    os.utime(tmp_path / "a", (1, 1))
    assert told(changes) == {"a": True}
    assert told(changes) == {}


def test_beyond_its_limit_it_forgets_the_oldest_and_tells_them_again(tmp_path: Path) -> None:
    changes = Changes(tmp_path, remembered=2)
    for name in "abc":
        write(tmp_path / name, "1")
        told(changes)
    assert "a" in told(changes)


def test_links_to_files_are_files_and_links_to_folders_nothing(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a", "1")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").symlink_to(tmp_path / "elsewhere" / "a")
    (folder / "folder").symlink_to(tmp_path / "elsewhere")
    (folder / "nowhere").symlink_to(tmp_path / "none")
    assert told(Changes(folder)) == {"file": True}


def test_a_folder_that_is_not_there_has_no_changes(tmp_path: Path) -> None:
    assert told(Changes(tmp_path / "none")) == {}
