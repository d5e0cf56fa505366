"""`python -m batchmesh.azureml FILE.py [arguments]`: runs a program written for Azure ML, unmodified, over a mesh."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from typing import TYPE_CHECKING

from batchmesh.azureml.finder import install
from batchmesh.azureml.unserved import sentence_of
from batchmesh.cli import CANCELLED, REFUSED, SUCCEEDED, say, status_of
from batchmesh.errors import BatchmeshError

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = "usage: python -m batchmesh.azureml FILE.py [arguments]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status, as of `batchmesh run`; what is refused is one sentence with the program's line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0].startswith("-"):
        say(_USAGE)
        return SUCCEEDED if given[:1] in (["-h"], ["--help"]) else REFUSED
    file = given[0]
    if not os.path.isfile(file):
        say(f"The program {file} does not exist.")
        return REFUSED
    install()
    sys.argv = given
    sys.path[0] = os.path.dirname(os.path.abspath(file))
    try:
        runpy.run_path(file, run_name="__main__")
    except BatchmeshError as error:
        say(f"{_line_of(error, file)}{error}")
        return status_of(error)
    except (AttributeError, TypeError) as error:
        if not (sentence := sentence_of(error)):
            raise
        say(f"{_line_of(error, file)}{sentence}")
        return REFUSED
    except KeyboardInterrupt:
        return CANCELLED
    return SUCCEEDED


def _line_of(error: BaseException, file: str) -> str:
    """ "score.py, line 42: ", the innermost line of the program; empty if it has none in the traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}, line {lines[-1]}: " if lines else ""


if __name__ == "__main__":
    sys.exit(main())
