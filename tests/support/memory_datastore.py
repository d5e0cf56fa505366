"""A remote datastore in memory: what a test puts there, and what was asked of it."""

from __future__ import annotations

import fnmatch
import io
import threading
from typing import TYPE_CHECKING, BinaryIO

from batchmesh.datastores.store import Found
from batchmesh.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class MemoryDatastore:
    """Blobs by path; `put` gives each content a new stamp. `gate` is cleared to hold downloads up, `trouble` is what
    each of them raises."""

    def __init__(self, name: str = "blobs") -> None:
        self.name = name
        self.downloads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.trouble: Exception | None = None
        self._blobs: dict[str, tuple[bytes, str]] = {}
        self._puts = 0

    def put(self, path: str, content: bytes | str) -> None:
        self._puts += 1
        self._blobs[path] = (content.encode() if isinstance(content, str) else content, str(self._puts))

    def local(self, path: str) -> str | None:
        return None

    def find(self, path: str, after: str | None = None) -> Iterator[Found]:
        found = after is not None
        for name, (content, stamp) in sorted(self._blobs.items(), key=lambda each: each[0].encode()):
            if _means(path, name) and (after is None or name.encode() > after.encode()):
                found = True
                yield Found(name, len(content), stamp)
        if not found:
            raise InputRefused(f"datastore://{self.name}/{path}: there is nothing; check the path.")

    def download(self, path: str, to: Path) -> None:
        self.gate.wait(30)
        if self.trouble is not None:
            raise self.trouble
        self.downloads.append(path)
        to.write_bytes(self._content(path))

    def open(self, path: str) -> BinaryIO:
        return io.BufferedReader(io.BytesIO(self._content(path)))

    def upload(self, from_: Path, path: str, *, overwrite: bool) -> None:
        self.put(path, from_.read_bytes())

    def delete(self, path: str) -> None:
        self._blobs.pop(path, None)

    def _content(self, path: str) -> bytes:
        if path not in self._blobs:
            raise InputRefused(f"datastore://{self.name}/{path} cannot be read (there is none); check the path.")
        return self._blobs[path][0]


def _means(path: str, name: str) -> bool:
    folder = path.removesuffix("/")
    return not folder or name == path or name.startswith(f"{folder}/") or fnmatch.fnmatchcase(name, path)
