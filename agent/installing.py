"""How a virtual environment is made: with uv where it is on the PATH, else with the interpreter's own venv and pip."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

from batchmesh.errors import BatchmeshError

from . import commands
from .interpreter import surroundings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .groups import Groups
    from .interpreter import Interpreter

#: Changes when environments are made in another way than before: what is there already is not used any more.
RECIPE = 1
#: Characters of the installer's last lines in the error of a job.
_LAST = 2_000


class NotInstalled(BatchmeshError):
    """The installer has failed; the sentence ends with its own last lines."""


async def install(requirements: Sequence[str], base: Interpreter, folder: Path, records: Groups, within: float) -> None:
    """Makes `folder`/venv with these lines of a requirements.txt; `folder` is there and empty. `within` is in seconds.

    Errors: NotInstalled, OSError.
    """
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements), "utf-8")
    variables = {**surroundings(os.environ, base.path, ""), "NO_COLOR": "1"}
    try:
        async with asyncio.timeout(within):
            for command in steps(shutil.which("uv"), base.path, folder, anything=bool(requirements)):
                check(command, await commands.run(command, folder, variables, records, within))
    except TimeoutError:
        raise NotInstalled(f"its installation took longer than {within:g} seconds (--environment-timeout).") from None


def steps(uv: str | None, base: str, folder: Path, *, anything: bool) -> list[tuple[str, ...]]:
    """The commands that make `folder`/venv of the interpreter `base`; `anything` is to be installed."""
    venv, python, wanted = (str(folder / name) for name in ("venv", "venv/bin/python", "requirements.txt"))
    if uv:
        make: tuple[str, ...] = (uv, "venv", "--quiet", "--no-project", "--python", base, venv)
        fill: tuple[str, ...] = (uv, "pip", "install", "--no-progress", "--python", python, "--requirement", wanted)
    else:
        make = (base, "-I", "-m", "venv", *(() if anything else ("--without-pip",)), venv)
        fill = (python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input")
        fill += ("--progress-bar", "off", "--requirement", wanted)
    return [make, fill] if anything else [make]


def check(command: Sequence[str], ended: commands.Ended) -> None:
    """Raises NotInstalled, with what the command said last from the beginning of a line on, unless it ended well."""
    if not ended.status:
        return
    said = ended.said.strip()
    last = said if len(said) <= _LAST else said[-_LAST:].partition("\n")[2] or said[-_LAST:]
    how = f"exit status {ended.status}" if ended.status >= 0 else f"signal {-ended.status}"
    tool = command[command.index("-m") + 1] if "-m" in command else os.path.basename(command[0])
    raise NotInstalled(f"{tool} ended with {how} and said last:\n{last}")
