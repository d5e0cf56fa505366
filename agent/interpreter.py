"""A Python of this node, as it describes itself, and what is to be around a process that it executes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batchmesh.errors import BatchmeshError

from . import commands

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .groups import Groups

#: The oldest Python that workers run in.
OLDEST = (3, 9)
#: What table input, and .csv and .parquet output, need in it.
LIBRARIES = ("pandas", "pyarrow")
#: Seconds in which an interpreter has to describe itself.
_PATIENCE = 60.0
_DESCRIBE = f"""
import importlib.util, json, sys
has = [name for name in {LIBRARIES} if importlib.util.find_spec(name)]
about = [sys.implementation.name, sys.version_info[:3], sys.implementation.cache_tag, sys.prefix, sys.base_prefix, has]
print("\\n" + json.dumps(about))
"""
#: Variables of the agent's that are about its own Python. (PYTHONHASHSEED and others are the node's and stay.)
_ABOUT_ITS_OWN = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class NoInterpreter(BatchmeshError):
    """There is no Python at that path, or none that workers can run in."""


class Interpreter(NamedTuple):
    """What workers can be run by."""

    path: str
    #: 3.11.7
    version: str
    #: Names its compiled files: cpython-311.
    tag: str
    #: Of the virtual environment that it is; empty if it is none.
    environment: str
    #: Those of LIBRARIES that it has.
    libraries: tuple[str, ...]


async def examined(path: str, records: Groups) -> Interpreter:
    """Asks a Python what it is. Errors: NoInterpreter."""
    try:
        ended = await commands.run(
            (path, "-I", "-B", "-c", _DESCRIBE), Path("/"), surroundings(os.environ, path, ""), records, _PATIENCE
        )
    except TimeoutError:
        raise NoInterpreter(f"{path} did not say within {_PATIENCE:g} seconds which Python it is.") from None
    except (OSError, ValueError) as error:
        raise NoInterpreter(f"The interpreter {path} cannot be started: {_reason(error)}.") from None
    return described(path, ended)


def described(path: str, ended: commands.Ended) -> Interpreter:
    """What it has said of itself. Errors: NoInterpreter."""
    try:
        name, version, tag, prefix, base_prefix, libraries = json.loads(ended.said.splitlines()[-1])
    except (IndexError, ValueError):
        name, version, tag = "", (0, 0, 0), ""
    if name != "cpython" or tuple(version) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise NoInterpreter(f"{path} is no CPython of version {oldest} or later; name another interpreter.")
    environment = prefix if prefix != base_prefix else ""
    return Interpreter(path, ".".join(map(str, version)), tag, environment, tuple(libraries))


def surroundings(agents: Mapping[str, str], path: str, environment: str) -> dict[str, str]:
    """The environment variables for a process of that interpreter, given the agent's own.

    Its commands are found before others; nothing tells it of the Python that the agent runs in. `environment` is the
    folder of the virtual environment that it is, if it is one.
    """
    variables = {name: value for name, value in agents.items() if name not in _ABOUT_ITS_OWN}
    variables["PATH"] = os.pathsep.join(filter(None, (os.path.dirname(path), agents.get("PATH", os.defpath))))
    return {**variables, "VIRTUAL_ENV": environment} if environment else variables


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
