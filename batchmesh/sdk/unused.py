"""What a program sets that means nothing here is kept, and said to be unused: one log line each, once a process."""

from __future__ import annotations

import logging

log = logging.getLogger("batchmesh.sdk")
_said: set[str] = set()


def say_unused(what: str, why: str) -> None:
    """ "docker.base_image is kept, and unused here: workers run on the nodes themselves." """
    if what not in _said:
        _said.add(what)
        log.warning("%s is kept, and unused here: %s", what, why)
