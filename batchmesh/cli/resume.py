"""`batchmesh resume`: go on with a job that did not succeed."""

from __future__ import annotations

import click

from batchmesh.cli.options import Where, json_option, mesh_options


@click.command()
@click.argument("job")
@mesh_options
@json_option
def resume(job: str, where: Where, as_json: bool) -> int:
    """Go on with JOB, which failed, was cancelled or lost, and wait for its output. What is done stays done.

    Ctrl-C cancels the job and waits for its end; a second one leaves at once.
    """
    with where.connect() as client:
        from batchmesh.cli.follow import Interrupts, follow

        with Interrupts() as interrupts:
            client.resume(job, attended=True)
            interrupts.cancelling(client, job)
            return follow(client, job, as_json=as_json)
