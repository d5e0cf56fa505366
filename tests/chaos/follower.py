"""The client of a chaos job: submits it, however often that takes, watches it to its end, keeps what it was told."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from batchmesh.client import Client
from batchmesh.errors import MeshUnreachable

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh.job import Job

#: Seconds for which a mesh that does not answer is asked again.
_PATIENCE = 120.0


class Told(NamedTuple):
    """One state that the client was told, and the monotonic second at which it was."""

    at: float
    job: Job


class Follower:
    """A thread of its own. `told` grows; `done` is set when the job has ended, or `error` says why it is not known."""

    def __init__(
        self, address: str, script: Path, inputs: Path, output: Path, job_id: str, given: dict[str, Any]
    ) -> None:
        self._address = address
        self._submission = (script, inputs, output)
        self._job_id = job_id
        self._given = given
        self.told: list[Told] = []
        self.error: Exception | None = None
        self.done = threading.Event()
        threading.Thread(target=self._follow, name=f"follower of {job_id}", daemon=True).start()

    @property
    def job(self) -> Job:
        """The newest state."""
        assert self.told, f"nothing was told of {self._job_id}"
        return self.told[-1].job

    def _follow(self) -> None:
        try:
            with Client(self._address) as client:
                self._submitted(client)
                self._watched(client)
        except Exception as error:  # noqa: BLE001 whatever it is, the harness tells it with the history
            self.error = error
        finally:
            self.done.set()

    def _submitted(self, client: Client) -> None:
        """Submitting again with the same id is safe, also when the first time was executed and not answered."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                job = client.submit(*self._submission, job_id=self._job_id, attended=True, **self._given)
            except MeshUnreachable:
                if time.monotonic() > deadline:
                    raise
            else:
                self.told.append(Told(time.monotonic(), job))
                return

    def _watched(self, client: Client) -> None:
        for job in client.watch(self._job_id, patience=_PATIENCE):
            self.told.append(Told(time.monotonic(), job))
