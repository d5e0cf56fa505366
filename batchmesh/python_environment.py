"""The Python that an entry script runs in. A module of its own: services know it, and no more of what clients know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PythonEnvironment:
    """The Python that the entry script runs in: a virtual environment with these requirements, or an interpreter."""

    name: str = ""
    #: Lines of a requirements.txt.
    requirements: tuple[str, ...] = ()
    #: Absolute path of the interpreter on each node; empty: the agent's own.
    interpreter_path: str = ""
    #: Nothing is installed: the interpreter is used as it is.
    user_managed: bool = False
