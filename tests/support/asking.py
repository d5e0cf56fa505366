"""Asks of table files as planning asks nodes, answered on the spot by what nodes answer with."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from batchmesh.agent.scanning import Place, answered
from batchmesh.datastores.reference import parse
from batchmesh.scan_messages import asked_in, request_of, told_in
from batchmesh.v1 import agent_pb2

if TYPE_CHECKING:
    from batchmesh.data.plan_slices import PlanSlice, TableFile, Told, Wanted
    from batchmesh.datastores.store import Datastore


class Asking:
    """As splitting.Ask says. `blobs` is the one datastore there is; `asked` are all requests that nodes got."""

    def __init__(self, blobs: Datastore | None = None) -> None:
        self.asked: list[agent_pb2.ScanTableRequest] = []
        self._blobs = blobs
        self._stopped = False

    def __call__(self, file: TableFile, wanted: Wanted | PlanSlice) -> Answer:
        if self._stopped:
            raise CancelledError
        request = request_of(file, wanted)
        self.asked.append(request)
        reference = parse(file.path)
        place = Place(reference.path, self._blobs) if reference else Place(file.path, None)
        response = answered(*asked_in(request), place, threading.Event())
        return Answer(agent_pb2.ScanTableResponse.FromString(response.SerializeToString()))

    def stop(self) -> None:
        self._stopped = True


class Answer:
    """That of a node, as splitting.Asked says. It is there only once somebody waits for it."""

    def __init__(self, response: agent_pb2.ScanTableResponse) -> None:
        self._response = response

    def result(self) -> Told:
        return told_in(self._response)

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        """It is there already."""
