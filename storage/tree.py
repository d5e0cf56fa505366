"""The files below a folder: in which order they come, by what they are known again, and how they get elsewhere.

copy_tree: folder ──(reflink, or in the kernel)──▶ hidden folder, durable ──settle: renamed one by one──▶ folder
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from batchmesh.data.job_report import REPORT

from .disk import sync_folder
from .places import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: Bytes that the kernel is asked to copy at a time.
_COPIED = 2**30
#: The kernel, or a file system, that cannot copy from file to file by itself.
_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def files_below(folder: Path, inside: str = "") -> Iterator[str]:
    """The paths of all files below a folder, relative to it and in bytewise order; a folder that is not there has none.

    A link to a file is one, a link to a folder is nothing.
    """
    with suppress(FileNotFoundError):
        for name in _names_in(folder / inside):
            if name.endswith("/"):
                yield from files_below(folder, inside + name)
            else:
                yield inside + name


def is_of_script(name: str) -> bool:
    """Whether a file in an output folder may be the script's: neither hidden by us nor of the report."""
    return not name.startswith((HIDDEN, f"{REPORT}/"))


def script_files(folder: Path) -> Iterator[str]:
    """The files in an output folder that a script has put there."""
    return filter(is_of_script, files_below(folder))


def fingerprint(entries: Iterable[tuple[str, object]]) -> str:
    """By what a folder of files is known again: (path, stamp) of each, in their order; a stamp changes with content."""
    found = hashlib.sha256()
    for name, stamp in entries:
        found.update(f"{name}\0{stamp}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def fingerprint_of(folder: Path) -> str:
    """That of the script's files in an output folder; empty when they cannot be looked at."""
    try:
        return fingerprint((name, _stamp(folder / name)) for name in script_files(folder))
    except OSError:
        return ""


def copy_file(source: Path, target: Path) -> None:
    """Copies a file, sharing its blocks where the file system can; durable when it returns."""
    with source.open("rb") as from_, target.open("wb") as to:
        _copy_content(from_.fileno(), to.fileno())
        os.fsync(to.fileno())


def copy_tree(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copies those files of one folder into another one, which is made."""
    target.mkdir(exist_ok=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        copy_file(source / name, target / name)


def settle(hidden: Path, folder: Path) -> None:
    """Moves each file of a hidden folder to its place in the folder it is hidden in, and removes what is left of it."""
    if not hidden.is_dir():
        return
    for name in files_below(hidden):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (hidden / name).replace(folder / name)
    for above, _, _ in os.walk(hidden):
        inside = folder / os.path.relpath(above, hidden)
        if inside.is_dir():
            sync_folder(inside)
    shutil.rmtree(hidden)


def _names_in(folder: Path) -> list[str]:
    """Names of the files and folders of one folder; those of folders end with a slash."""
    with os.scandir(folder) as entries:
        names = [
            f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name
            for each in entries
            if each.is_dir(follow_symlinks=False) or each.is_file()
        ]
    return sorted(names, key=os.fsencode)


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _copy_content(from_: int, to: int) -> None:
    try:
        while os.copy_file_range(from_, to, _COPIED):
            pass
    except OSError as error:
        if error.errno not in _CANNOT_COPY:
            raise
        os.lseek(from_, 0, os.SEEK_SET)
        os.ftruncate(to, 0)
        os.lseek(to, 0, os.SEEK_SET)
        with os.fdopen(os.dup(from_), "rb") as source, os.fdopen(os.dup(to), "wb") as target:
            shutil.copyfileobj(source, target, 2**20)
