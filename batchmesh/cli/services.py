"""`batchmesh storage`, `scheduler` and `agent`: one service each, which takes this process over."""

from __future__ import annotations

import os
import sys

import click


def _command(name: str, help_text: str) -> click.Command:
    @click.command(
        name,
        help=help_text,
        context_settings={"ignore_unknown_options": True, "help_option_names": [], "allow_interspersed_args": False},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def execute(arguments: tuple[str, ...]) -> None:
        os.execv(  # noqa: S606 no shell is wanted
            sys.executable, [sys.executable, "-m", f"batchmesh.{name}", *arguments]
        )

    return execute


storage = _command("storage", "Run the service that keeps bytes: --listen HOST:PORT --root DIR.")
scheduler = _command("scheduler", "Run the service that decides: --listen HOST:PORT --storage HOST:PORT --state DIR.")
agent = _command("agent", "Run the service that has workers: --scheduler HOST:PORT [--slots N] [--work DIR].")
