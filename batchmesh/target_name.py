"""What a compute target may be called."""

from __future__ import annotations

import re

from batchmesh.errors import BadName

_PATTERN = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,23}")


def check_target_name(name: str) -> str:
    """The name, if it is one. Errors: BadName."""
    if _PATTERN.fullmatch(name):
        return name
    raise BadName(
        f"'{name}' is no name of a compute target; use 1 to 24 letters, digits and '-', beginning with a letter."
    )
