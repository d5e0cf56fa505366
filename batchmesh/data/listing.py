"""Lists inputs lazily, in the order their items have in the output.

    input ──(folder = every file below it, glob, file)──▶ walk, one sorted scandir a folder ──▶ Run, Run, … ──▶ path, …

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
from bisect import bisect_left
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from batchmesh.data.job_report import REPORT, holds_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MAGIC = re.compile(r"[*?\[]")


class InputRefused(ValueError):
    """An input cannot be used: the message names it and says what to do."""


class Run(NamedTuple):
    """Files that follow one another in the order and lie in one folder, whose path ends with a slash."""

    folder: str
    names: list[str]


def list_runs(text: str, after: str | None = None) -> Iterator[Run]:
    """One input's files, as far as they follow one another in one folder; `folder` is absolute.

    With `after`, the path of one of them, only those behind it.
    Errors: InputRefused for an input that does not exist, holds no file (never with `after`), or has a folder that
    cannot be read.
    """
    root, pattern = _root_of(text)
    if pattern is None:
        if after is None:
            head, tail = os.path.split(root)
            yield Run(os.path.join(head, ""), [tail])
        return
    found = after is not None
    folder = os.path.join(root, "")
    behind = None if after is None else after[len(folder) :]
    left_out = f"{folder}{REPORT}/" if pattern.is_whole_folder and holds_report(folder) else ""
    for run in _walk(_Below(folder, pattern.start(), behind), pattern, left_out):
        found = True
        yield run
    if not found:
        raise InputRefused(_nothing_in(text))


def list_input(text: str, after: str | None = None) -> Iterator[str]:
    """The absolute paths of one input's files; `after` and errors as of `list_runs`."""
    for folder, names in list_runs(text, after):
        for name in names:
            yield folder + name


def first_file(text: str) -> str:
    """The first path that `list_input` gives, without a look at each file of a folder. Errors: as of `list_runs`."""
    if is_folder(text):
        folder = os.path.join(os.path.abspath(text), "")
        with suppress(OSError):  # the listing says why
            names = os.listdir(os.fsencode(folder))
            first = min(filter(_is_shown, names), default=b"")
            if first and stat.S_ISREG(os.lstat(os.fsencode(folder) + first).st_mode):
                return folder + os.fsdecode(first)  # all that a folder could stand before begins as the folder's name
    return next(list_input(text))


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

    def matches(self, path: Sequence[str]) -> bool:
        """Whether a file matches, by the parts of its path below the fixed folder."""
        state = self.start()
        for folder in path[:-1]:
            state = self.step(state, folder)
        match = self.files(state)
        return match is None or bool(match(path[-1]))

    def step(self, state: frozenset[int], name: str) -> frozenset[int]:
        """The state behind a folder called `name`; empty if nothing below it can match."""
        behind = set()
        for index in state:
            if index == len(self._parts):
                continue
            part = self._parts[index]
            if part is None:
                behind.add(index)
            elif part.match(name):
                behind.add(index + 1)
        return self._with_skips(behind)

    def files(self, state: frozenset[int]) -> Callable[[str], object] | None:
        """Tells of a file's name whether it matches there; None if each does."""
        last = len(self._parts)
        ends = [index for index in state if index < last and last in self._with_skips({index + 1})]
        parts = [self._parts[index] for index in ends]
        if None in parts:
            return None
        matches = [part.match for part in parts if part is not None]
        return matches[0] if len(matches) == 1 else lambda name: any(match(name) for match in matches)

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


class _Below(NamedTuple):
    """A folder (with a slash at its end) that may hold matching files; `after` as of _of_folder."""

    folder: str
    state: frozenset[int]
    after: str | None


def _walk(top: _Below, pattern: Pattern, left_out: str) -> Iterator[Run]:
    """The matching files below a folder in bytewise order; `left_out` is a folder, with a slash at its end."""
    stack = [_of_folder(top, pattern, left_out)]
    while stack:
        each = next(stack[-1], None)
        if each is None:
            stack.pop()
        elif isinstance(each, Run):
            yield each
        else:
            stack.append(_of_folder(each, pattern, left_out))


def _of_folder(top: _Below, pattern: Pattern, left_out: str) -> Iterator[Run | _Below]:
    """What matches directly in a folder, from behind `after`, which is relative to it."""
    folder, state, after = top
    names, folders = _names_in(folder)
    if after is not None:
        names, folders = _behind(names, after), _behind(folders, after)
    matches, begin = pattern.files(state), 0
    for name in [*folders, None]:
        end = len(names) if name is None else names.index(name, begin)
        run = names[begin:end] if folders else names
        if matches is not None:
            run = list(filter(matches, run))
        if run:
            yield Run(folder, run)
        if name is not None and folder + name != left_out and (state_there := pattern.step(state, name[:-1])):
            is_cut = after is not None and after.startswith(name)
            yield _Below(folder + name, state_there, after[len(name) :] if after is not None and is_cut else None)
        begin = end + 1


def _behind(names: list[str], after: str) -> list[str]:
    """The names behind `after`, and the folder that it lies in."""
    last, slash = os.fsencode(after), after.find("/") + 1
    return [name for name in names if os.fsencode(name) > last or name == after[:slash]]


def _names_in(folder: str) -> tuple[list[str], list[str]]:
    """All names in one folder, and those among them that are folders, which end with a slash; both sorted."""
    others: list[os.DirEntry[str]] = []

    def set_aside(entry: os.DirEntry[str]) -> bool:
        others.append(entry)
        return False

    try:
        with os.scandir(folder) as entries:  # one call for each file: there may be a million
            names = [each.name for each in entries if each.is_file(follow_symlinks=False) or set_aside(each)]
        folders = [each.name + "/" for each in others if each.is_dir(follow_symlinks=False)]
        names += [each.name for each in others if _leads_to_no_folder(each)]
    except OSError as error:
        raise InputRefused(f"folder {folder!r} cannot be listed ({error.strerror}); grant read permission") from None
    names += folders
    return _in_order(names), _in_order(folders)


def _in_order(names: list[str]) -> list[str]:
    """Sorts the names, in place, by their bytes; without those that are hidden."""
    if all(map(str.isascii, names)):
        names.sort()
    else:
        names.sort(key=os.fsencode)
    del names[bisect_left(names, ".") : bisect_left(names, "/")]
    return names


def _is_shown(name: bytes) -> bool:
    return not name.startswith(b".")


def _leads_to_no_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.isdir(entry.path)


def _nothing_in(text: str) -> str:
    if not is_glob(text):
        return f"input {text!r} holds no file (names that begin with '.' are left out); give a folder with files in it"
    return f"input {text!r} matches no file; check the pattern ('**' goes into folders; names in '.' are left out)"
