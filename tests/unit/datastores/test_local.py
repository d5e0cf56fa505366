"""A folder as a datastore: what it lists, and how files come and go."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from batchmesh.datastores.local import LocalDatastore
from batchmesh.entries import LocalFolder
from batchmesh.errors import BadEntry, InputRefused, PathTaken

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.txt", "a/2.txt", "a-b.txt", "a/.hidden", "b/c/3.png"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "root"


@pytest.fixture
def datastore(folder: Path) -> LocalDatastore:
    return LocalDatastore("data", LocalFolder(str(folder)))


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ["a-b.txt", "a/1.txt", "a/2.txt", "b/c/3.png"]),
        ("a", ["a/1.txt", "a/2.txt"]),
        ("a/", ["a/1.txt", "a/2.txt"]),
        ("a/2.txt", ["a/2.txt"]),
        ("a/*.txt", ["a/1.txt", "a/2.txt"]),
        ("**/*.png", ["b/c/3.png"]),
    ],
)
def test_a_path_means_a_file_a_folder_or_a_glob_in_bytewise_order(
    datastore: LocalDatastore, path: str, names: list[str]
) -> None:
    assert [found.path for found in datastore.find(path)] == names
    assert [found.path for found in datastore.find(path, names[0])] == names[1:]


def test_what_is_found_has_its_size_and_a_stamp_that_changes_with_it(datastore: LocalDatastore, folder: Path) -> None:
    (found,) = datastore.find("a/1.txt")
    assert (found.size, found.stamp) == (7, str((folder / "a/1.txt").stat().st_mtime_ns))
    os.utime(folder / "a/1.txt", (1, 1))
    assert next(datastore.find("a/1.txt")).stamp != found.stamp


@pytest.mark.parametrize("path", ["none", "a/*.png", "../root"])
def test_nothing_there_is_refused_by_its_name(datastore: LocalDatastore, path: str) -> None:
    with pytest.raises(InputRefused, match="data"):
        list(datastore.find(path))


def test_a_file_comes_and_goes_whole(datastore: LocalDatastore, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    datastore.upload(tmp_path / "mine", "new/folder/x", overwrite=False)
    datastore.download("new/folder/x", tmp_path / "back")
    with datastore.open("new/folder/x") as file:
        file.seek(2)
        assert file.read() == b"ne"
    assert (tmp_path / "back").read_text() == "mine"
    datastore.delete("new/folder/x")
    datastore.delete("new/folder/x")
    assert os.listdir(folder / "new" / "folder") == []


def test_what_is_there_is_only_overwritten_when_that_was_asked_for(
    datastore: LocalDatastore, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(PathTaken, match=r"datastore://data/a/1\.txt is there already"):
        datastore.upload(tmp_path / "mine", "a/1.txt", overwrite=False)
    assert sorted(os.listdir(folder / "a")) == [".hidden", "1.txt", "2.txt"]
    datastore.upload(tmp_path / "mine", "a/1.txt", overwrite=True)
    assert (folder / "a" / "1.txt").read_text() == "mine"


def test_no_path_leads_out_of_it(datastore: LocalDatastore, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for act in (
        lambda: datastore.open("../mine"),
        lambda: datastore.download("/etc/hostname", tmp_path / "x"),
        lambda: datastore.upload(tmp_path / "mine", "a/../../x", overwrite=True),
        lambda: datastore.delete("../mine"),
    ):
        with pytest.raises(InputRefused, match="names nothing"):
            act()
    assert (tmp_path / "mine").exists()


def test_a_file_that_is_not_there_says_so(datastore: LocalDatastore, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="datastore://data/none cannot be read"):
        datastore.download("none", tmp_path / "x")
    with pytest.raises(InputRefused, match="Cannot read"):
        datastore.upload(tmp_path / "none", "x", overwrite=True)
    assert os.listdir(tmp_path) == ["root"]


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(BadEntry, match="give permission to write"):
        LocalDatastore("data", LocalFolder(str(tmp_path / "mine"))).upload(tmp_path / "mine", "a/x", overwrite=True)
