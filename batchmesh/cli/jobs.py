"""`batchmesh jobs`, `show`, `cancel` and `rm`: what jobs there are, and single acts on one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from batchmesh.cli import say
from batchmesh.cli.options import Where, json_option, mesh_options
from batchmesh.cli.shape import ago, counts, job_json, seconds, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.job import Job


@click.command()
@click.option("--workspace", default="", metavar="NAME", help="Only jobs of that workspace.")
@click.option("--experiment", default="", metavar="NAME", help="Only jobs of that experiment.")
@click.option("--pipeline-run", default="", metavar="ID", help="Only the steps of that run of a pipeline.")
@mesh_options
@json_option
def jobs(where: Where, as_json: bool, **labels: str) -> None:
    """List the jobs of the mesh, the newest first."""
    with where.connect() as client:
        if as_json:
            for job in client.list(**labels):
                click.echo(job_json(job))
            return
        from batchmesh.cli.table import print_table

        columns = ("job", "state", "mini-batches", "items", "failed", "took", "submitted", "script", "output")
        print_table(columns, map(_row, client.list(**labels)))


@click.command()
@click.argument("job")
@mesh_options
@json_option
def show(job: str, where: Where, as_json: bool) -> None:
    """Show all that is known of JOB."""
    with where.connect() as client:
        found = client.get(job)
    if as_json:
        click.echo(job_json(found))
        return
    from batchmesh.cli.table import print_table

    print_table(("", found.job_id), _facts(found))
    failure = found.first_failure or found.error
    if failure is not None and failure.traceback:
        click.echo(f"\n{failure.traceback.rstrip()}")


@click.command()
@click.argument("job")
@mesh_options
@json_option
def cancel(job: str, where: Where, as_json: bool) -> None:
    """Ask JOB to end. What is done stays done, and `resume` goes on with it."""
    with where.connect() as client:
        found = client.cancel(job)
    if as_json:
        click.echo(job_json(found))
    else:
        say(f"{job} is {'cancelled' if found.state.is_final else 'being cancelled'}.")


@click.command()
@click.argument("job")
@mesh_options
@json_option
def rm(job: str, where: Where, as_json: bool) -> None:
    """Forget JOB, which has ended, with its logs and segments. Its published output stays."""
    with where.connect() as client:
        client.delete(job)
    if as_json:
        click.echo(json.dumps({"job_id": job, "deleted": True}))
    else:
        say(f"{job} is forgotten; its output stays.")


def _row(job: Job) -> tuple[str, ...]:
    progress = job.progress
    return (
        job.job_id,
        str(job.state),
        f"{progress.ended_mini_batches}/{progress.planned_mini_batches}",
        str(progress.ended_items),
        str(progress.failed_items),
        span(seconds(job)) if job.started else "",
        f"{ago(job.submitted)} ago" if job.submitted else "",
        job.spec.entry_script,
        job.spec.output,
    )


def _facts(job: Job) -> Iterator[tuple[str, str]]:
    progress = job.progress
    yield "state", str(job.state)
    if job.waiting_for:
        yield "waiting for", job.waiting_for
    if job.error:
        yield "error", job.error.message
    if job.first_failure:
        yield "first failure", job.first_failure.message
    if job.spec.after:
        yield "comes after", " ".join(job.spec.after)
    for name in ("reused_from", "not_reused"):
        if getattr(job, name):
            yield name.replace("_", " "), getattr(job, name)
    yield "progress", counts(job)
    yield "now", f"{progress.running_mini_batches} running on {progress.workers} workers of {progress.nodes} nodes"
    yield "failed attempts, tried again", str(progress.retried_attempts)
    yield "took", span(seconds(job))
    for name in ("submitted", "started", "ended"):
        moment = getattr(job, name)
        yield name, moment.astimezone().isoformat(" ", "seconds") if moment else ""
    yield "script", job.spec.entry_script
    yield "input", " ".join(job.spec.inputs)
    yield "output", job.output_path or job.spec.output
    yield "report", job.report_path
