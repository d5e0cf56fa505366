"""One client for each mesh that this process talks to, open as long as the process: all workspaces of a mesh share it.

An embedded mesh ends with its last client, so what a program submits runs while the program does.
"""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING

from batchmesh.errors import MeshUnreachable
from batchmesh.home import Home

if TYPE_CHECKING:
    from batchmesh.client import Client

_lock = threading.Lock()
_clients: dict[str, Client] = {}


def client_of(scheduler: str = "") -> Client:
    """The client of that scheduler, or else of the home's mesh, which is started if it does not stand."""
    from batchmesh.client import Client

    place = scheduler or str(Home.find().path)
    with _lock:
        if place in _clients and not _stands(_clients[place]):
            _clients.pop(place).close()
        if place not in _clients:
            _clients[place] = Client(scheduler or None)
        return _clients[place]


def _stands(client: Client) -> bool:
    """Whether its mesh is still there: a notebook may outlive the mesh of its home."""
    try:
        client.mesh()
    except MeshUnreachable:
        return False
    return True


def close_all() -> None:
    """Leaves every mesh; a workspace that is used afterwards fails."""
    with _lock:
        for client in _clients.values():
            client.close()
        _clients.clear()


atexit.register(close_all)
