"""Lists inputs lazily, in the order their items have in the output.

    input ──(folder = every file below it, glob, file)──▶ walk, one sorted scandir a folder ──▶ path, path, …

Order is bytewise on the whole relative path: a folder sorts as its name and a slash, which makes sorting each folder's
own names enough. Names that begin with '.' are left out; symlinked files are followed, symlinked folders are not; a
symlink that leads nowhere is an item, which then fails by name; sockets, pipes and devices are no items. The report of
an earlier job that stands directly in an input folder is left out.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from typing import TYPE_CHECKING

from batchmesh.data.job_report import REPORT, holds_report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAGIC = re.compile(r"[*?\[]")


class InputRefused(ValueError):
    """An input cannot be used: the message names it and says what to do."""


def list_input(text: str, after: str | None = None) -> Iterator[str]:
    """The absolute paths of one input's files.

    With `after`, a path once yielded, only those behind it.
    Errors: InputRefused for an input that does not exist, holds no file (never with `after`), or has a folder that
    cannot be read.
    """
    root, pattern = _root_of(text)
    if pattern is None:
        yield from [root] if after is None else []
        return
    found = after is not None
    folder = os.fsencode(os.path.join(root, ""))
    behind = None if after is None else os.fsencode(after)[len(folder) :]
    left_out = f"{REPORT}/".encode() if pattern.is_whole_folder and holds_report(folder) else b""
    for name in _walk(folder, pattern, behind, left_out):
        found = True
        yield os.fsdecode(folder + name)
    if not found:
        raise InputRefused(_nothing_in(text))


def is_glob(text: str) -> bool:
    """Whether an input is a pattern. A path that exists is itself, whatever characters are in its name."""
    return _MAGIC.search(text) is not None and not os.path.lexists(text)


def is_folder(text: str) -> bool:
    return os.path.isdir(text)


class Pattern:
    """The parts of a glob below its fixed folder. A state is the set of parts that may match the next name."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = [None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts]
        self.is_whole_folder = all(part == "**" for part in parts)

    def start(self) -> frozenset[int]:
        return self._with_skips({0})

    def step(self, state: frozenset[int], name: bytes) -> frozenset[int]:
        """The state behind a folder or file called `name`; empty if nothing below it can match."""
        text, behind = os.fsdecode(name), set()
        for index in state:
            if index == len(self._parts):
                continue
            part = self._parts[index]
            if part is None:
                behind.add(index)
            elif part.match(text):
                behind.add(index + 1)
        return self._with_skips(behind)

    def accepts(self, state: frozenset[int]) -> bool:
        return len(self._parts) in state

    def _with_skips(self, state: set[int]) -> frozenset[int]:
        """`**` also matches no folder at all, so whoever stands before it stands behind it, too."""
        for index in sorted(state):
            at = index
            while at < len(self._parts) and self._parts[at] is None:
                at += 1
                state.add(at)
        return frozenset(state)


def _root_of(text: str) -> tuple[str, Pattern | None]:
    """The folder that a listing starts from and the pattern below it, or a single file and None."""
    path = os.path.abspath(text)
    mode = _mode_of(text)
    if mode is None and _MAGIC.search(text):
        parts = path.split(os.sep)
        fixed = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
        root = os.sep.join(parts[:fixed]) or os.sep
        if not os.path.isdir(root):
            raise InputRefused(f"input {text!r}: there is no folder {root!r}; check the path")
        return root, Pattern(parts[fixed:])
    if mode is None:
        raise InputRefused(f"input {text!r} does not exist; check the path")
    if stat.S_ISDIR(mode):
        return path, Pattern(["**"])
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise InputRefused(f"input {text!r} is neither a file nor a folder; give one of these or a glob")
    return path, None


def _mode_of(text: str) -> int | None:
    """What the path leads to; the link itself if it leads nowhere; None if there is no such path."""
    if not text or "\0" in text:
        raise InputRefused(f"input {text!r} is no path; give a file, a folder or a glob")
    for look in (os.stat, os.lstat):
        try:
            return look(text).st_mode
        except PermissionError:
            raise InputRefused(f"input {text!r} may not be read; grant the permission to do so") from None
        except OSError:
            continue
    return None


def _walk(root: bytes, pattern: Pattern, after: bytes | None, left_out: bytes = b"") -> Iterator[bytes]:
    """The matching relative paths below `root` (which ends with a slash) in bytewise order, from behind `after`.

    `left_out` is a folder directly in it, with a slash.
    """
    stack = [(b"", pattern.start(), _names_in(root))]
    while stack:
        folder, state, names = stack[-1]
        if not names:
            stack.pop()
            continue
        name = names.pop()
        path, is_dir = folder + name, name.endswith(b"/")
        if path == left_out:
            continue
        if after is not None and path <= after and not (is_dir and after.startswith(path)):
            continue
        behind = pattern.step(state, name[:-1] if is_dir else name)
        if is_dir and behind:
            stack.append((path, behind, _names_in(root + path)))
        elif not is_dir and pattern.accepts(behind):
            yield path


def _names_in(folder: bytes) -> list[bytes]:
    """The names of one folder, last one first, so that each can be popped and forgotten; folders end with a slash."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(b"."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    names.append(entry.name + b"/")
                elif entry.is_file(follow_symlinks=False) or _leads_to_no_folder(entry):
                    names.append(entry.name)
    except OSError as error:
        shown = os.fsdecode(folder)
        raise InputRefused(f"folder {shown!r} cannot be listed ({error.strerror}); grant read permission") from None
    names.sort(reverse=True)
    return names


def _leads_to_no_folder(entry: os.DirEntry[bytes]) -> bool:
    return entry.is_symlink() and not os.path.isdir(entry.path)


def _nothing_in(text: str) -> str:
    if not is_glob(text):
        return f"input {text!r} holds no file (names that begin with '.' are left out); give a folder with files in it"
    return f"input {text!r} matches no file; check the pattern ('**' goes into folders; names in '.' are left out)"
