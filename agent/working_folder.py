"""The private folder that a worker runs in: it begins with what the source folder holds, so that a script finds what
lies beside it by relative paths, too.

Files are links to the source, which all workers of a node share and which can only be read; folders are folders of the
worker's own, so that what a script writes below one of them stays its own.
Runs in the user's Python: CPython 3.9 syntax, standard library only.
"""

from __future__ import annotations

import os


def fill(folder: str, source: str) -> None:
    """Links all files of `source` into `folder`, which is empty. Errors: OSError."""
    with os.scandir(source) as entries:
        for entry in entries:
            target = os.path.join(folder, entry.name)
            if not entry.is_dir(follow_symlinks=False):
                os.symlink(entry.path, target)
            elif entry.name != "__pycache__":
                os.mkdir(target)
                fill(target, entry.path)
