"""`batchmesh nodes`: the machines of the mesh."""

from __future__ import annotations

import click

from batchmesh.cli.options import Where, json_option, mesh_options
from batchmesh.cli.shape import ago, node_json


@click.command()
@mesh_options
@json_option
def nodes(where: Where, as_json: bool) -> None:
    """List the nodes that have joined the mesh."""
    with where.connect() as client:
        found = client.nodes()
    if as_json:
        for node in found:
            click.echo(node_json(node))
        return
    from batchmesh.cli.table import print_table

    rows = (
        (
            node.node_id,
            str(node.state),
            f"{node.workers}/{node.slots}",
            node.compute_target,
            node.address,
            f"{ago(node.last_heartbeat)} ago" if node.last_heartbeat else "",
            " ".join(node.job_ids),
        )
        for node in found
    )
    print_table(("node", "state", "workers", "compute target", "address", "heard", "jobs"), rows)
