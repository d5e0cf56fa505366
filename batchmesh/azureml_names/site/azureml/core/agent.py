"""The way to the agent of this worker, which holds the credentials and fetches each thing once for its node."""

from __future__ import annotations

import sys


def fetched(reference: str) -> str:
    """Where a model or dataset lies on this node. Errors: RuntimeError; the agent's answer, as one sentence."""
    names = sys.modules.get("batchmesh.azureml_names")
    if names is None or names.ask is None:
        sentence = f"{reference} can only be fetched by the worker itself, not by a process that the script has started"
        raise RuntimeError(f"{sentence}; ask for it in init() and hand on what you get.")
    path: str = names.ask([reference])[0]
    return path
