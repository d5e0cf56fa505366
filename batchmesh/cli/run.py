"""`batchmesh run`: submit a job, stay, and show how it goes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from batchmesh.cli.options import Where, job_options, json_option, mesh_options

if TYPE_CHECKING:
    from batchmesh.client import Client
    from batchmesh.submission import Submission


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
    from batchmesh.errors import BatchmeshError

    try:
        client.send(submission, job_id=job_id, attended=True)
    except KeyboardInterrupt:
        # It may have arrived.
        with suppress(BatchmeshError):
            client.cancel(job_id)
        raise
