"""Lines of a requirements.txt, as far as they name files of the host that installs them."""

from __future__ import annotations

import re
import shlex
from urllib.parse import unquote, urlsplit

#: Options whose value is a file, a folder or a URL.
_WITH_PATH = re.compile(r"(-[rcef]|--(?:requirement|constraint|editable|find-links)(?:=|$))(.*)")
_ARCHIVES = (".whl", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def paths_in(line: str) -> list[str]:
    """The local files and folders that a line names, absolute or not; none for packages and URLs elsewhere."""
    words = _words(line)
    named: list[str] = []
    if words and not words[0].startswith("-"):
        named += [words[0]] if _is_path(words[0]) else []
    for at, word in enumerate(words):
        option = _WITH_PATH.fullmatch(word)
        if option:
            named += [option[2]] if option[2] else words[at + 1 : at + 2]
        elif word.startswith("file:"):
            named.append(word)
    return [path for path in map(_local, named) if path]


def _words(line: str) -> list[str]:
    """Without the comment, and with what stands behind '@' and ';' as words of their own."""
    spaced = re.sub(r"@\s*(?=file:)|\s*;", " ", line)
    try:
        return shlex.split(spaced, comments=True)
    except ValueError:
        return spaced.split()


def _is_path(word: str) -> bool:
    path = word.partition("[")[0]
    if _URL.match(path):
        return False
    return path.startswith(".") or "/" in path or path.lower().endswith(_ARCHIVES)


def _local(word: str) -> str:
    """The path that a word means; empty if it is a URL elsewhere."""
    if word.startswith("file:"):
        return unquote(urlsplit(word).path)
    return "" if _URL.match(word) else word.partition("[")[0]
