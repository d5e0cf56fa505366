"""Where the files of a run are copied to when several are asked for at once, as azureml has it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def chosen(
    names: Sequence[str],
    prefix: str | None,
    output_directory: str | None,
    output_paths: Sequence[str] | None,
    append_prefix: bool,
) -> Iterator[tuple[str, str]]:
    """Those of `names` that begin with `prefix`, each with its place: of `output_paths`, or below `output_directory`
    under its name, with `append_prefix` its whole one."""
    begin = prefix or ""
    taken = [name for name in names if name.startswith(begin)]
    short = [name if append_prefix else name[len(begin) :].lstrip("/") for name in taken]
    places = output_paths or [os.path.join(output_directory or ".", each) for each in short]
    return zip(taken, places, strict=True)
