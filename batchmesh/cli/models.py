"""`batchmesh models`: files and folders that entry scripts find under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchmesh.cli.entries import add_list_and_show, described, entry_json, workspace_option
from batchmesh.cli.options import Where, json_option, mesh_options
from batchmesh.entries import Entry, EntryKind, Model

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.group()
def models() -> None:
    """Register, list and show models."""


@models.command()
@click.argument("name")
@click.argument("path")
@described
@workspace_option
@mesh_options
@json_option
def register(
    name: str, path: str, tags: Mapping[str, str], description: str, workspace: str, where: Where, as_json: bool
) -> None:
    """Send the file or folder PATH to the mesh and register it as the next version of NAME, which is printed.

    What is the same as the newest version is that version again.
    """
    with where.connect() as client:
        entry = client.catalog.register_model(name, path, workspace=workspace, tags=tags, description=description)
    click.echo(entry_json(entry) if as_json else f"{entry.name}:{entry.version}")


def _told(entry: Entry) -> str:
    assert isinstance(entry.content, Model)
    return entry.content.file or "a folder"


add_list_and_show(models, EntryKind.MODEL, "holds", _told)
