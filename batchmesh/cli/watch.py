"""`batchmesh watch`: look on while a job runs."""

from __future__ import annotations

import click

from batchmesh.cli.options import Where, json_option, mesh_options


@click.command()
@click.argument("job")
@mesh_options
@json_option
def watch(job: str, where: Where, as_json: bool) -> int:
    """Show how JOB goes until it has ended. Ctrl-C only leaves; the job runs on."""
    with where.connect() as client:
        from batchmesh.cli.follow import follow

        return follow(client, job, as_json=as_json)
