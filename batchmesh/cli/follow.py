"""Following a job to its end, and what Ctrl-C means meanwhile."""

from __future__ import annotations

import queue
import signal
import threading
from typing import TYPE_CHECKING, Self

from batchmesh.cli import CANCELLED, FAILED, SUCCEEDED, say
from batchmesh.cli.outcome import report
from batchmesh.cli.progress import display
from batchmesh.errors import BatchmeshError, JobCommitting, JobEnded, MeshUnreachable
from batchmesh.job import Job, JobState

if TYPE_CHECKING:
    from types import FrameType

    from batchmesh.client import Client


class Interrupts:
    """Ctrl-C and SIGTERM of a command that owns its job.

    Outside of `cancelling` either one raises KeyboardInterrupt. Inside, the first one asks for the job's cancellation
    and lets the watching go on; the second one raises KeyboardInterrupt.
    """

    def __enter__(self) -> Self:
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._armed = False
        self._before = {signum: signal.signal(signum, self._hear) for signum in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def cancelling(self, client: Client, job_id: str) -> None:
        """From now on the first signal cancels that job."""
        # A thread makes the call: a signal may come while the main thread holds a lock of the same channel.
        threading.Thread(target=self._cancel, args=(client, job_id), daemon=True).start()
        self._armed = True

    def _hear(self, _signum: int, _frame: FrameType | None) -> None:
        if not self._armed:
            raise KeyboardInterrupt
        self._armed = False
        self._asked.put(True)

    def _cancel(self, client: Client, job_id: str) -> None:
        self._asked.get()
        say(f"Cancelling {job_id}; press Ctrl-C again to leave at once.")
        try:
            client.cancel(job_id)
        except (JobCommitting, JobEnded) as error:
            say(str(error))
        except BatchmeshError as error:
            say(f"{job_id} could not be cancelled: {error}")


def follow(client: Client, job_id: str, *, as_json: bool) -> int:
    """Shows the job until it has ended, then how; returns the exit status."""
    job: Job | None = None
    with display(as_json) as shown:
        for job in client.watch(job_id):
            shown.show(job)
    if job is None:
        raise MeshUnreachable(f"The mesh told nothing of {job_id}.")
    report(job)
    return {JobState.SUCCEEDED: SUCCEEDED, JobState.CANCELLED: CANCELLED}.get(job.state, FAILED)
