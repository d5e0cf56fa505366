"""The folder that an entry script comes with, packed into one archive that every node can unpack.

    folder ──files_of──▶ names and paths, in bytewise order ──pack──▶ tar in a temporary file + SHA-256 ──▶ storage

The archive is deterministic: the same files give the same digest on any host, so that storage and nodes keep it once.
"""

from __future__ import annotations

import glob
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchmesh.data.job_report import holds_report
from batchmesh.errors import ScriptRefused
from batchmesh.home import HOME_MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from batchmesh.archive import Archive

#: Bytes of all files together. More, and each node copies what is probably data.
MAX_BYTES = 300 * 2**20
#: Files. More, and unpacking takes longer than the job.
MAX_FILES = 20_000


class SourceRefused(ScriptRefused):
    """The folder of the entry script is missing, unreadable or too large to be sent to each node."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is packed: the folder, the script in it that is never left out, and absolute paths that are."""

    root: Path
    entry_script: str
    leave_out: frozenset[str] = frozenset()


def paths_inside(root: Path, inputs: Iterable[str], output: str) -> frozenset[str]:
    """The job's own data that lies inside `root`: the absolute paths to leave out of the source.

    A folder that is `root` itself, or holds it, leaves nothing out.
    """
    inside = os.path.join(root, "")
    found: set[str] = set()
    for path in (*inputs, output):
        if not path.startswith(inside):
            continue
        found.update(glob.iglob(path, recursive=True) if glob.has_magic(path) else (path,))
    return frozenset(each.rstrip("/") for each in found)


def files_of(source: Source) -> list[tuple[str, Path]]:
    """(name in the archive, path) of each file, in bytewise order of the names.

    Left out are hidden entries, __pycache__, virtual environments, homes of a mesh, outputs of jobs, symlinks that
    point outside, and `leave_out`.
    Errors: SourceRefused for a folder that cannot be read, or is too large.
    """
    found = {source.entry_script: source.root / source.entry_script}
    size = 0
    try:
        for name, path in _walk(source, source.root, "", (os.path.realpath(source.root),)):
            found[name] = path
            size += path.stat().st_size
            _check_limits(source.root, len(found), size)
    except OSError as error:
        raise SourceRefused(f"Cannot read {error.filename}: {error.strerror}.") from None
    return sorted(found.items(), key=lambda item: os.fsencode(item[0]))


@contextmanager
def pack(source: Source) -> Iterator[Archive]:
    """An uncompressed tar of the source in a temporary file that lives as long as the `with` block.

    Errors: SourceRefused.
    """
    from batchmesh.archive import packed  # while the mesh starts: a submission is checked before that

    files = files_of(source)
    with packed(files, SourceRefused) as archive:
        yield archive


def _walk(source: Source, folder: Path, prefix: str, above: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """`above` holds the real paths of the folders on the way down: a symlink to one of them would never end."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or entry.name == "__pycache__" or str(path) in source.leave_out:
                continue
            if entry.is_symlink() and not os.path.realpath(path).startswith(os.path.join(above[0], "")):
                continue
            if entry.is_file():
                yield prefix + entry.name, path
            elif entry.is_dir() and not _is_made(path):
                real = os.path.realpath(path)
                if real not in above:
                    yield from _walk(source, path, f"{prefix}{entry.name}/", (*above, real))


def _is_made(folder: Path) -> bool:
    """Whether it is a virtual environment, the home of a mesh, or the output of a job."""
    return (folder / "pyvenv.cfg").exists() or (folder / HOME_MARK).exists() or holds_report(str(folder))


def _check_limits(root: Path, files: int, size: int) -> None:
    if size <= MAX_BYTES and files <= MAX_FILES:
        return
    what = f"{files:,} files" if files > MAX_FILES else f"{size / 2**20:,.0f} MB"
    raise SourceRefused(
        f"The folder of the entry script, {root}, holds more than {what}, and all of it would be sent to each node "
        f"(the limit is {MAX_BYTES // 2**20} MB in {MAX_FILES:,} files); name the folder with the code with "
        "--source-directory, or put the script in a folder of its own."
    )
