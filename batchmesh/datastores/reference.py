"""References: text that names what lies in a datastore, wherever an absolute path may stand."""

from __future__ import annotations

import re
from typing import NamedTuple

from batchmesh.errors import SpecRefused

_SCHEME = "datastore://"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Reference(NamedTuple):
    """datastore://NAME/PATH. The path is relative: empty, a file, a folder (also with '/' at its end) or a glob."""

    datastore: str
    path: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.datastore}/{self.path}"


def parse(text: str) -> Reference | None:
    """What the text refers to; None for a path, which is no reference. Errors: SpecRefused for a malformed one."""
    if not text.startswith(_SCHEME):
        return None
    name, _, path = text.removeprefix(_SCHEME).partition("/")
    if not _NAME.fullmatch(name):
        raise SpecRefused(f"'{text}' names no datastore; it is datastore://NAME/PATH.")
    if path and not is_inside(path.removesuffix("/")):
        raise SpecRefused(
            f"The path in '{text}' has an empty part, '.', '..' or a NUL; name it from the top, without them."
        )
    return Reference(name, path)


def is_inside(path: str) -> bool:
    """Whether a relative path leads from the top of a datastore to what is in it, by one spelling only."""
    return "\0" not in path and not any(part in ("", ".", "..") for part in path.split("/"))
