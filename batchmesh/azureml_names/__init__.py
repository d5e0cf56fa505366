"""The names of Azure ML that entry scripts import, for workers in which azureml is not installed.

    import azureml.core ──▶ sys.path … ──▶ the real one, if there is one
                                  └─last─▶ site/azureml/core ──what is not on this node──▶ the agent

They lie in a folder at the end of sys.path, which processes that a script starts with multiprocessing have, too; so
they import nothing of batchmesh. Runs in the user's Python: CPython 3.9 syntax, standard library only.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    _Ask = Callable[[Sequence[str]], "list[str]"]

SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")

#: Has references on this node and says where they lie; `site` finds it here.
ask: _Ask | None = None


def serve(asking: _Ask) -> None:
    """From now on the names can be imported; what they ask for goes through `asking`."""
    global ask  # noqa: PLW0603  a process has one agent
    ask = asking
    sys.path.append(SITE)
    sys.meta_path.append(_Last())


class _Last:
    """Asked when no other finder has a module. What a real azureml does not have is its own affair.

    The class to derive from would take longer to import than all of this.
    """

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        del target
        if path is not None and all(each.startswith(SITE) for each in path):
            raise ModuleNotFoundError(
                f"{fullname} is not served in batchmesh's workers: they have azureml.core and "
                "azureml_user.parallel_run; for more, install azureml-core with the job's environment.",
                name=fullname,
            )
        return None
