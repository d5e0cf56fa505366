"""The command line: `batchmesh COMMAND …`.

    0 succeeded   1 the job failed   2 command, script or input refused   3 no mesh reached   130 cancelled

Standard output is for machines (a job's id, --json, tables, logs); all else goes to standard error. What each command
imports, it imports when it runs: the first result of `batchmesh run` waits for every import here.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

SUCCEEDED = 0
FAILED = 1
REFUSED = 2
NO_MESH = 3
CANCELLED = 130


def program() -> NoReturn:
    """Runs the command that this process was started for, and ends the process with its exit status.

    All that it had to say is written by then. To take gRPC and the interpreter down in order would take another 30 ms.
    """
    status = main()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    import click

    from batchmesh.cli.group import group
    from batchmesh.errors import BatchmeshError

    try:
        status = group.main(args=arguments, prog_name="batchmesh", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        say(error.format_message())
        return REFUSED
    except BatchmeshError as error:
        say(str(error))
        return status_of(error)
    except (KeyboardInterrupt, click.Abort):
        return CANCELLED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not find that out again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status if isinstance(status, int) else SUCCEEDED


def status_of(error: Exception) -> int:
    """The exit status that an error means."""
    from batchmesh.errors import MeshEmbedded, MeshUnreachable, Refused

    if isinstance(error, MeshUnreachable | MeshEmbedded):
        return NO_MESH
    return REFUSED if isinstance(error, Refused) else FAILED


def say(sentence: str) -> None:
    """One sentence to the person, on standard error."""
    print(f"batchmesh: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 the command line speaks
