"""What a program sets that means nothing here is kept, and said to be unused: one log line each, once a process."""

from __future__ import annotations

import logging

log = logging.getLogger("batchmesh.sdk")
_said: set[str] = set()


def say_unused(what: str, why: str) -> None:
    """ "Kept, and unused here: docker.base_image; workers run on the nodes themselves." """
    if what not in _said:
        _said.add(what)
        log.warning("Kept, and unused here: %s; %s", what, why)
