"""The commands and the modules they are in. Only the one that runs is imported."""

from __future__ import annotations

import importlib
from typing import Any

import click

_MODULES = {
    "run": "run",
    "submit": "submit",
    "jobs": "jobs",
    "show": "jobs",
    "watch": "watch",
    "cancel": "jobs",
    "resume": "resume",
    "rm": "jobs",
    "logs": "logs",
    "nodes": "nodes",
    "models": "models",
    "datasets": "datasets",
    "datastores": "datastores",
    "up": "up",
    "storage": "services",
    "scheduler": "services",
    "agent": "services",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 as above
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"batchmesh.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"batchmesh {version('batchmesh')}")
        context.exit()


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def group(**_: Any) -> None:
    """Batch inference and any per-mini-batch work over large inputs, on one laptop or on many hosts."""
