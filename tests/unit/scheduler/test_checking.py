"""What is looked at before a job is accepted, while a datastore does not answer."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, cast

import pytest

from batchmesh.errors import DatastoreFailed, InputRefused
from batchmesh.scheduler.checking import check_input
from batchmesh.v1 import job_pb2

if TYPE_CHECKING:
    from batchmesh.datastores.store import Datastore
    from batchmesh.scheduler.datastores import Datastores
    from batchmesh.scheduler.inputs import Remote


class Silent:
    """Datastores of which none answers before `over`."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def asked(self, workspace: str) -> Remote:
        del workspace
        return self._open

    def _open(self, name: str) -> Datastore:
        self.over.wait(30)
        raise DatastoreFailed(f"The datastore '{name}' does not answer.")


def test_datastores_that_do_not_answer_hold_up_no_job_that_runs() -> None:
    async def story() -> None:
        silent = Silent()
        spec = job_pb2.JobSpec(inputs=["datastore://silent/in"])
        more = 40  # than Python has threads for what may block
        checks = [asyncio.create_task(check_input(spec, cast("Datastores", silent))) for _ in range(more)]
        await asyncio.sleep(0)  # all of them have begun
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 10) == "done"
        silent.over.set()
        for each in checks:
            with pytest.raises(InputRefused, match="does not answer"):
                await each

    asyncio.run(story())
