"""Files packed into one deterministic tar: the same names and bytes give the same digest on any host.

names and paths ──packed──▶ uncompressed tar in a temporary file + SHA-256 ──▶ an artifact of storage
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from batchmesh.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batchmesh.errors import Refused

#: Bytes kept in memory before the archive goes to a temporary file.
_IN_MEMORY = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar that stands at its begin, and is gone when the `packed` block ends. `size` is in bytes."""

    digest: str
    size: int
    tar: IO[bytes]


@contextmanager
def packed(files: Iterable[tuple[str, Path]], refused: type[Refused]) -> Iterator[Archive]:
    """An archive of (name in it, path), in the order given. Errors: `refused` for a file that cannot be read."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
        with tarfile.open(fileobj=spool, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, path in files:
                _add(tar, name, path, refused)
        size = spool.tell()
        spool.seek(0)
        sha256 = hashlib.sha256()
        while piece := spool.read(2**20):
            sha256.update(piece)
        spool.seek(0)
        yield Archive(sha256.hexdigest(), size, spool)


@contextmanager
def packed_path(path: Path, purpose: str) -> Iterator[tuple[Archive, str]]:
    """The archive of a file or folder, and the name of the file in it if it is one; `purpose` is for sentences.

    Errors: InputRefused for a path that cannot be read or holds no file.
    """
    file = path.name if path.is_file() else ""
    files = [(file, path)] if file else _files_in(path, purpose)
    with packed(files, InputRefused) as archive:
        yield archive, file


def _files_in(folder: Path, purpose: str) -> list[tuple[str, Path]]:
    """(name, path) of all files below it, hidden ones too, in bytewise order; links to files are followed."""
    if not folder.is_dir():
        raise InputRefused(f"There is no file or folder {folder} {purpose}; check the path.")
    found = []
    for above, folders, names in os.walk(folder, onerror=_unreadable):
        _check_no_links(Path(above), folders)
        folders[:] = [name for name in folders if name != "__pycache__"]
        files = (Path(above) / name for name in names)
        found += [(path.relative_to(folder).as_posix(), path) for path in files if path.is_file()]
    if not found:
        raise InputRefused(f"The folder {folder} holds no file {purpose}.")
    return sorted(found, key=lambda each: os.fsencode(each[0]))


def _check_no_links(above: Path, folders: Iterable[str]) -> None:
    for name in folders:
        if (above / name).is_symlink():
            raise InputRefused(
                f"{above / name} is a link to a folder, which is not followed; put the folder itself there."
            )


def _unreadable(error: OSError) -> None:
    raise InputRefused(f"Cannot read {error.filename}: {error.strerror}.") from None


def _add(tar: tarfile.TarFile, name: str, path: Path, refused: type[Refused]) -> None:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            entry = tarfile.TarInfo(name)
            entry.size = found.st_size
            entry.mode = stat.S_IMODE(found.st_mode)
            tar.addfile(entry, file)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            folder = tempfile.gettempdir()
            raise refused(
                f"The temporary folder {folder} has no room for {path}; set TMPDIR to one that has."
            ) from None
        raise refused(f"Cannot read {path}: {error.strerror or 'it shrank while it was read'}.") from None
