"""The datastores that jobs name, opened with what storage keeps for them."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from batchmesh.datastores.opening import open_datastore
from batchmesh.errors import MeshUnreachable

if TYPE_CHECKING:
    from batchmesh.datastores.store import Datastore

    from .inputs import Remote
    from .publisher import Publisher

#: Seconds after which an answer that the event loop owes a planning thread does not come any more.
_ANSWER = 60.0


class Datastores:
    """Made on the event loop, which it asks storage on; what it gives is for other threads."""

    def __init__(self, publisher: Publisher, patience: float) -> None:
        """`patience` is how long planning waits for a storage that does not answer, in seconds."""
        self._publisher = publisher
        self._patience = patience
        self._loop = asyncio.get_running_loop()

    def asked(self, workspace: str) -> Remote:
        """Those of a job that somebody waits to be accepted: one that does not answer is refused at once."""
        return partial(self._open, workspace, 0.0)

    def planned(self, workspace: str) -> Remote:
        """Those of a job that is planned: a storage that is away for a while costs it nothing."""
        return partial(self._open, workspace, self._patience)

    def _open(self, workspace: str, patience: float, name: str) -> Datastore:
        until = time.monotonic() + patience
        while True:
            asked = asyncio.run_coroutine_threadsafe(self._publisher.credentials(workspace, name), self._loop)
            try:
                return open_datastore(asked.result(_ANSWER), patient=patience > 0)
            except MeshUnreachable:
                if time.monotonic() > until:
                    raise
