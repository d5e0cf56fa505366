"""A folder that every host sees at the same path, as a datastore."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from batchmesh.data import listing
from batchmesh.datastores.reference import Reference, is_inside
from batchmesh.datastores.store import Found
from batchmesh.errors import BadEntry, DatastoreFailed, InputRefused, PathTaken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.entries import LocalFolder

_DENIED = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalDatastore:
    """See `Datastore`. Files come and go by renames within the folder that they are in."""

    def __init__(self, name: str, folder: LocalFolder) -> None:
        self.name = name
        self._root = Path(os.path.abspath(folder.path))

    def local(self, path: str) -> str | None:
        return str(self._path(path)) if path else str(self._root)

    def find(self, path: str, after: str | None = None) -> Iterator[Found]:
        behind = None if after is None else str(self._path(after))
        try:
            for each in listing.list_input(self.local(path) or "", behind):
                yield self._found(each)
        except listing.InputRefused as error:
            raise InputRefused(f"{Reference(self.name, path)}: {error}.") from None

    def _found(self, path: str) -> Found:
        name = path.removeprefix(os.path.join(self._root, ""))
        try:
            status = os.stat(path)
        except OSError:  # a link that leads nowhere is an item, which fails by name
            return Found(name, 0, "0")
        return Found(name, status.st_size, str(status.st_mtime_ns))

    def download(self, path: str, to: Path) -> None:
        source = self._path(path)
        self.open(path).close()
        with _appearing(to) as temporary:
            shutil.copyfile(source, temporary)
            temporary.replace(to)

    def open(self, path: str) -> BinaryIO:
        with self._reading(path):
            return self._path(path).open("rb")

    def upload(self, from_: Path, path: str, *, overwrite: bool) -> None:
        _check_readable(from_)
        target = self._path(path)
        with self._writing(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _appearing(target) as temporary:
                shutil.copyfile(from_, temporary)
                if overwrite:
                    temporary.replace(target)
                else:
                    os.link(temporary, target)

    def delete(self, path: str) -> None:
        with self._writing(path):
            self._path(path).unlink(missing_ok=True)

    def _path(self, path: str) -> Path:
        if not is_inside(path.removesuffix("/")):
            raise InputRefused(
                f"'{path}' names nothing in the datastore '{self.name}'; name it from the top, without '..'."
            )
        return self._root / path

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except _DENIED as error:
            raise InputRefused(
                f"{Reference(self.name, path)} cannot be read ({error.strerror}); check the path."
            ) from None
        except OSError as error:
            raise DatastoreFailed(f"The datastore '{self.name}' failed on {path}: {error.strerror or error}.") from None

    @contextmanager
    def _writing(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise PathTaken(f"{Reference(self.name, path)} is there already; ask to overwrite it.") from None
        except _DENIED as error:
            raise BadEntry(
                f"{Reference(self.name, path)} cannot be written ({error.strerror}); give permission to write to "
                f"{self._root}, or register another folder."
            ) from None
        except OSError as error:
            raise DatastoreFailed(f"The datastore '{self.name}' failed on {path}: {error.strerror or error}.") from None


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputRefused(f"Cannot read {path} ({error.strerror}); check the path.") from None


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """The hidden name of a file beside `path` on its way there; gone afterwards if it is not."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.new")
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
