"""The disk: what has to be done so that something is still there after a power cut, and what its errors mean."""

from __future__ import annotations

import errno
import json
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from batchmesh.errors import BatchmeshError, DiskFailing, DiskFull, OutputUnwritable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EIO, errno.EUCLEAN)
#: File systems of a network that sync no folder keep names as safe as they can by themselves.
_NO_SUCH_SYNC = (errno.EINVAL, errno.ENOTSUP)
_DENIED = (
    errno.ENOENT,
    errno.EEXIST,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


def is_full(error: BaseException) -> bool:
    """Whether the disk has no room, or the quota none; what is tried again later may succeed."""
    return isinstance(error, OSError) and error.errno in _FULL


def meaning(error: OSError, path: Path | str) -> BatchmeshError | None:
    """What an error at `path` says to whoever has to mend it; None for one that says nothing."""
    reason = os.strerror(error.errno or 0)
    if error.errno in _FULL:
        return DiskFull(f"The disk that holds {path} is full; free some space there and go on.")
    if error.errno == errno.EFBIG:
        return OutputUnwritable(
            f"{path} would be larger than its file system, or the limit of the storage process, allows ({reason}); "
            "choose another folder, or raise the limit."
        )
    if error.errno in _BROKEN:
        return DiskFailing(f"The disk that holds {path} fails ({reason}); have it looked after, or use another one.")
    if error.errno in _DENIED:
        return OutputUnwritable(
            f"{path} cannot be written ({reason}); choose another folder, or give storage the permission to write."
        )
    return None


@contextmanager
def said_clearly(path: Path | str) -> Iterator[None]:
    """Turns errors of the disk into DiskFull, DiskFailing or OutputUnwritable, with a sentence on `path`."""
    try:
        yield
    except OSError as error:
        clear = meaning(error, path)
        if clear is None:
            raise
        raise clear from error


def sync_file(path: Path) -> None:
    """Makes the content of a file durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SUCH_SYNC:
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Makes a folder and those above it, durably. What has to be made gets that mode, less the umask."""
    if not folder.is_dir():
        make_folder(folder.parent, mode)
        folder.mkdir(mode, exist_ok=True)
    # Also when it is there: whoever made it may have been killed before this.
    with suppress(PermissionError):  # we have made nothing in a folder that we may not read
        sync_folder(folder.parent)


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replaces a small file by one that is either the old one or all of `data`, whatever happens meanwhile.

    It has that mode, less the umask, from the first byte on.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink()
        raise
    sync_folder(path.parent)


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in a small file of ours; None when there is none, or it is damaged, which is logged."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    structlog.get_logger().error("record_damaged", path=str(path))
    return None


def give_name(file: Path, path: Path) -> None:
    """Renames a file; one that had the name goes, and its room is freed beside us: that takes 0.2 ms a megabyte."""
    try:
        displaced = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        displaced = None
    try:
        file.replace(path)
    finally:
        if displaced is not None:
            threading.Thread(target=os.close, args=(displaced,), name="displaced", daemon=True).start()


def remove_durably(path: Path) -> None:
    """Removes a file; one that is not there is none."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_folder(path.parent)
