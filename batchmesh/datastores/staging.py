"""How what lies in a remote datastore comes to this host: asked for, fetched whole, kept in the cache."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batchmesh.errors import InputRefused

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh.datastores.cache import Cache, Held
    from batchmesh.datastores.store import Datastore

_EXACT = "exact"
#: Bytes of a file's name on the file systems there are.
_LONGEST = 255


class Staged(NamedTuple):
    """A file as it was when it had that stamp, or a folder. It stays until `held` is released."""

    held: Held
    stamp: str


@dataclass(frozen=True)
class Staging:
    """Blocking, and for any number of threads. Errors of each method: those of Datastore.find and Cache.hold."""

    cache: Cache
    workspace: str
    datastore: Datastore

    def file(self, path: str, stamp: str = "") -> Staged:
        """The file, and the stamp of just this content; with a `stamp`, as it was then, or InputRefused if that is not
        to be had any more."""
        staged = self._kept(path, stamp) or self._file(path, stamp, exact=True)
        if staged is None:
            raise InputRefused("it is not a file; name one")
        return staged

    def file_or_folder(self, path: str) -> Staged:
        """The file, or a folder with all that lies below, as it is now."""
        return self._file(path, "", exact=False) or self._folder(path)

    def _kept(self, path: str, stamp: str) -> Staged | None:
        """What has a stamp never changes, so that nobody need be asked."""
        held = self.cache.find(self._key(path, stamp, _EXACT), posixpath.basename(path)) if stamp else None
        return Staged(held, stamp) if held else None

    def _file(self, path: str, stamp: str, *, exact: bool) -> Staged | None:
        """None if the path means something else than a file. What is not fetched to be `exact` may be newer than its
        stamp, and is kept apart: nobody asks for that stamp again but to have what is there now."""
        found = next(self.datastore.find(path))
        if found.path != path:
            return None
        if stamp not in ("", found.stamp):
            raise _changed()

        def fetch(to: Path) -> None:
            self.datastore.download(path, to)
            if exact and next(self.datastore.find(path)).stamp != found.stamp:
                raise _changed()

        name = posixpath.basename(path)
        if len(name.encode()) > _LONGEST:
            raise InputRefused("its name is longer than a file's may be here; rename it")
        key = self._key(path, found.stamp, _EXACT if exact else "")
        return Staged(self.cache.hold(key, name, found.size, fetch), found.stamp)

    def _folder(self, path: str) -> Staged:
        """It is listed twice rather than held in memory; what it holds is its stamp."""
        top = posixpath.join(path, "") if path else ""
        content, size = hashlib.sha256(), 0
        for each in self.datastore.find(path):
            if not each.path.startswith(top):
                raise InputRefused("it is neither a file nor a folder; name one of these")
            content.update(f"{each.path}\0{each.stamp}\0".encode())
            size += each.size
        name = posixpath.basename(path.rstrip("/")) or self.datastore.name
        stamp = content.hexdigest()
        key = self._key(top, stamp, "")
        return Staged(self.cache.hold(key, name, size, lambda to: self._all(path, top, to)), stamp)

    def _all(self, path: str, top: str, to: Path) -> None:
        for each in self.datastore.find(path):
            file = to / each.path.removeprefix(top)
            file.parent.mkdir(parents=True, exist_ok=True)
            self.datastore.download(each.path, file)

    def _key(self, path: str, stamp: str, how: str) -> tuple[str, ...]:
        return (self.workspace, self.datastore.name, path, stamp, how)


def _changed() -> InputRefused:
    return InputRefused("it is no longer what it was when the job was planned; submit the job again")
