"""`batchmesh resume`: go on with a job that has ended."""

from __future__ import annotations

import click

from batchmesh.cli.options import Where, json_option, mesh_options


@click.command()
@click.argument("job")
@click.option("--failed", is_flag=True, help="Run what has failed again, too; also of a job that succeeded.")
@click.option("--error-threshold", type=int, metavar="N", help="Failed items the job bears from now on.")
@click.option("--run-invocation-timeout", type=float, metavar="S", help="Seconds for one run() from now on.")
@click.option("--source-directory", metavar="DIR", help="Another source, with the same entry script in it.")
@mesh_options
@json_option
def resume(
    job: str,
    failed: bool,
    error_threshold: int | None,
    run_invocation_timeout: float | None,
    source_directory: str | None,
    where: Where,
    as_json: bool,
) -> int:
    """Go on with JOB, which failed, was cancelled or lost, and wait for its output.

    What is done stays done, and what failed for good stays failed; with --failed that runs again. The output of a job
    that had succeeded is replaced at once, when all of the new one is there. Ctrl-C cancels the job and waits for its
    end; a second one leaves at once.
    """
    with where.connect() as client:
        from batchmesh.cli.follow import Interrupts, follow

        with Interrupts() as interrupts:
            client.resume(
                job,
                attended=True,
                failed=failed,
                error_threshold=error_threshold,
                run_invocation_timeout=run_invocation_timeout,
                source_directory=source_directory,
            )
            interrupts.cancelling(client, job)
            return follow(client, job, as_json=as_json)
