"""`batchmesh run`: submit a job, stay, and show how it goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from batchmesh.cli.options import Where, job_options, json_option, mesh_options

if TYPE_CHECKING:
    from batchmesh.client import Client
    from batchmesh.submission import Submission

#: Seconds that a submission whose sender was interrupted may take to become a job.
_ON_ITS_WAY = 2.0


@click.command()
@job_options
@mesh_options
@json_option
def run(submission: Submission, where: Where, as_json: bool) -> int:
    """Run SCRIPT over an input and wait for its output.

    Ctrl-C cancels the job and waits for its end; a second one leaves at once.
    """
    with where.connect() as client:
        # What follows is imported while the mesh starts.
        from batchmesh.cli.follow import Interrupts, follow
        from batchmesh.client import new_job_id

        job_id = new_job_id()
        with Interrupts() as interrupts:
            _send(client, submission, job_id)
            interrupts.cancelling(client, job_id)
            return follow(client, job_id, as_json=as_json)


def _send(client: Client, submission: Submission, job_id: str) -> None:
    try:
        client.send(submission, job_id=job_id, attended=True)
    except KeyboardInterrupt:
        _take_back(client, job_id)
        raise


def _take_back(client: Client, job_id: str) -> None:
    """Cancels a job that may have arrived, or be about to."""
    from batchmesh.errors import BatchmeshError, NoJob

    deadline = time.monotonic() + _ON_ITS_WAY
    while time.monotonic() < deadline:
        try:
            client.cancel(job_id)
        except NoJob:
            time.sleep(0.1)
        except BatchmeshError:
            return
        else:
            return
