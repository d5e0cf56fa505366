"""What a program asked of a class that is served, and that the class does not have: one sentence.

A module's missing name says so itself (finder); an attribute or a parameter is Python's own error, told anew here.
"""

from __future__ import annotations

import difflib
import os
import re
import traceback

import batchmesh
from batchmesh import sdk

_PARAMETER = re.compile(r"^((\w+)(?:\.\w+)?)\(\) got an unexpected keyword argument '(\w+)'")
_OURS = os.path.dirname(batchmesh.__file__) + os.sep


def sentence_of(error: BaseException) -> str:
    """Empty for any other error, and for one that has not come up in the program's own lines."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or frames[-1].filename.startswith(_OURS):
        return ""
    if isinstance(error, AttributeError):
        return _attribute(error.obj, error.name or "")
    found = _PARAMETER.match(str(error)) if isinstance(error, TypeError) else None
    if found is None or not hasattr(sdk, found[2]):
        return ""
    return f"{found[1].removesuffix('.__init__')} takes no {found[3]} in batchmesh; leave it out."


def _attribute(of: object, name: str) -> str:
    kind = of if isinstance(of, type) else type(of)
    if not kind.__module__.startswith("batchmesh.sdk"):
        return ""
    there = [each for each in dir(of) if not each.startswith("_")]
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.8)
    use = f"did you mean {near[0]}?" if near else f"{kind.__name__} has {', '.join(there)} here."
    return f"{kind.__name__}.{name} is not served by batchmesh; {use}"
