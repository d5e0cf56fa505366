"""Where the bytes of a table come from: a file of this host, or of a datastore."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Source:
    """A file to be read from any byte on, again and again; `path` is what sentences and slices call it."""

    path: str
    open: Callable[[], BinaryIO]


def local(path: str) -> Source:
    return Source(path, partial(_opened, path))


def _opened(path: str) -> BinaryIO:
    return open(path, "rb", buffering=0)
