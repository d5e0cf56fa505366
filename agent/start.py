"""The first module of the worker's zip: `python batchmesh-worker-….pyz SOCKET_FD WORD_FD AGENT_PID`.

Runs in the user's Python: CPython 3.9 syntax, standard library only.
"""

from __future__ import annotations

import sys

import batchmesh
from batchmesh.agent.worker import main


def _installed() -> list[str]:
    """Where the user's environment has a batchmesh of its own, for scripts that use more of it than workers do."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)  # Python before 3.12 takes finders of an older kind, too
        spec = find("batchmesh", sys.path[1:]) if find else None
        if spec is not None and spec.has_location:
            return list(spec.submodule_search_locations or ())
    return []


if __name__ == "__main__":
    batchmesh.__path__.extend(_installed())
    sys.exit(main(sys.argv[1:]))
