"""`batchmesh submit`: hand a job to a standing mesh and leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchmesh.cli.options import Where, job_options, json_option, mesh_options
from batchmesh.cli.shape import job_json

if TYPE_CHECKING:
    from batchmesh.submission import Submission


@click.command()
@job_options
@mesh_options
@json_option
def submit(submission: Submission, where: Where, as_json: bool) -> None:
    """Submit SCRIPT to a standing mesh and print the job's id."""
    with where.connect() as client:
        job = client.send(submission)
    click.echo(job_json(job) if as_json else job.job_id)
