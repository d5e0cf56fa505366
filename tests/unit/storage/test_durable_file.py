"""A file that is synced while it is being written: all of it is there, and nothing that a sync said is lost."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path

import pytest

from batchmesh.storage.disk import give_name
from batchmesh.storage.durable_file import DurableFile
from tests.support.story import wait_for

MIB = bytes(range(256)) * 4096
#: Any file of that kind can be written, and none can be synced.
UNSYNCABLE = Path("/dev/null")


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("durable-file")]


def write_for_long(file: DurableFile) -> None:
    for _ in range(100_000):
        file.write(MIB)


def test_all_that_was_written_is_there_and_no_thread_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = DurableFile(path)
    with io.BufferedWriter(file, 1000) as out:
        for number in range(40):
            out.write(MIB)
            out.write(b"%d" % number)
        out.flush()
        assert threads(), "40 MiB were written, and no sync was begun beside it"
        file.sync()
    assert path.read_bytes() == b"".join(MIB + b"%d" % number for number in range(40))
    assert not threads()


def test_a_second_beginning_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "file")
    with io.BufferedWriter(file, 1000) as out:
        for _ in range(20):
            out.write(MIB)
        out.seek(0)
        out.truncate()
        out.write(b"anew")
        out.flush()
        file.sync()
    assert (tmp_path / "file").read_bytes() == b"anew"


def test_what_a_sync_beside_the_writing_says_ends_the_writing() -> None:
    with DurableFile(UNSYNCABLE) as file, pytest.raises(OSError, match="Invalid argument") as refused:
        write_for_long(file)
    assert refused.value.errno == errno.EINVAL
    assert not threads()


def test_a_file_that_took_the_name_of_another_one_frees_that_one(tmp_path: Path) -> None:
    new, standing = tmp_path / "new", tmp_path / "standing"
    new.write_bytes(b"new")
    standing.write_bytes(MIB)
    before = len(os.listdir("/proc/self/fd"))
    give_name(new, standing)
    assert standing.read_bytes() == b"new"
    assert not new.exists()
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before, "the displaced file was closed")


@pytest.mark.parametrize("kind", ["nothing", "a pipe", "a dangling link", "unreadable"])
def test_a_file_gets_a_name_whatever_had_it(tmp_path: Path, kind: str) -> None:
    new, standing = tmp_path / "new", tmp_path / "standing"
    new.write_bytes(b"new")
    if kind == "a pipe":
        os.mkfifo(standing)  # a reader of it would wait for a writer
    elif kind == "a dangling link":
        standing.symlink_to(tmp_path / "gone")
    elif kind == "unreadable":
        standing.touch(0)
    give_name(new, standing)
    assert standing.read_bytes() == b"new"
    assert not standing.is_symlink()


def test_a_folder_keeps_its_name(tmp_path: Path) -> None:
    new, standing = tmp_path / "new", tmp_path / "standing"
    new.write_bytes(b"new")
    standing.mkdir()
    with pytest.raises(IsADirectoryError):
        give_name(new, standing)
    assert new.read_bytes() == b"new"
