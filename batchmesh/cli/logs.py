"""`batchmesh logs`: what the workers of a job have written."""

from __future__ import annotations

import fnmatch
import json
import sys
from typing import TYPE_CHECKING

import click

from batchmesh.cli.options import Where, json_option, mesh_options
from batchmesh.errors import NoLog

if TYPE_CHECKING:
    from batchmesh.client import Client
    from batchmesh.job import LogFile


@click.command()
@click.argument("job")
@click.argument("name", required=False)
@click.option("--list", "names_only", is_flag=True, help="Only the names and sizes of the logs.")
@mesh_options
@json_option
def logs(job: str, name: str | None, names_only: bool, where: Where, as_json: bool) -> None:
    """Print the logs of JOB: all of them, or those that NAME, which may be a glob, fits."""
    with where.connect() as client:
        client.get(job)  # A job that there is not has no logs to list either, and that is an error.
        found = [each for each in client.logs(job) if name is None or fnmatch.fnmatch(each.name, name)]
        if name is not None and not found:
            raise NoLog(f"{job} has no log {name!r}; `batchmesh logs {job} --list` shows their names.")
        if names_only and not as_json:
            from batchmesh.cli.table import print_table

            print_table(("log", "bytes"), ((each.name, str(each.size)) for each in found))
            return
        for each in found:
            if as_json:
                _print_json(client, job, each, names_only)
            else:
                _print(client, job, each, headed=len(found) > 1)


def _print(client: Client, job: str, log: LogFile, *, headed: bool) -> None:
    out = sys.stdout.buffer
    if headed:
        out.write(f"==> {log.name} <==\n".encode())
    last = b"\n"
    for piece in client.read_log(job, log.name):
        out.write(piece)
        last = piece[-1:] or last
    out.write(b"" if last == b"\n" else b"\n")
    out.flush()


def _print_json(client: Client, job: str, log: LogFile, names_only: bool) -> None:
    line: dict[str, str | int] = {"name": log.name, "size": log.size}
    if not names_only:
        line["text"] = b"".join(client.read_log(job, log.name)).decode(errors="replace")
    click.echo(json.dumps(line))
