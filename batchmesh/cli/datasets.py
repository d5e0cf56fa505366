"""`batchmesh datasets`: inputs under a name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from batchmesh.cli.entries import add_list_and_show, described, entry_json, workspace_option
from batchmesh.cli.options import Where, column_types, json_option, mesh_options
from batchmesh.data.kinds import KINDS
from batchmesh.datastores import reference
from batchmesh.entries import Dataset, Entry, EntryKind

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.group()
def datasets() -> None:
    """Register, list and show datasets."""


@datasets.command()
@click.argument("name")
@click.option(
    "--path",
    "paths",
    multiple=True,
    required=True,
    metavar="PATH",
    help="File, folder or glob, or datastore://NAME/PATH; may be repeated.",
)
@click.option(
    "--kind",
    required=True,
    type=click.Choice(KINDS, case_sensitive=False),
    help="What an item is.",
)
@click.option("--csv-header", type=click.Choice(["present", "absent"]), help="First line of CSV files.")
@click.option(
    "--csv-types",
    callback=column_types,
    metavar="NAME=TYPE,…",
    help="Of CSV and JSON lines: string, int64, float64, bool, timestamp, … [default: inferred].",
)
@described
@workspace_option
@mesh_options
@json_option
def register(
    name: str,
    paths: tuple[str, ...],
    kind: str,
    csv_header: str | None,
    csv_types: Mapping[str, str],
    tags: Mapping[str, str],
    description: str,
    workspace: str,
    where: Where,
    as_json: bool,
) -> None:
    """Register paths as the next version of NAME, which is printed. Nothing is copied.

    What is the same as the newest version is that version again.
    """
    absolute = tuple(path if reference.parse(path) else os.path.abspath(path) for path in paths)
    dataset = Dataset(kind, absolute, csv_header or "", csv_types)
    entry = Entry(name, dataset, workspace=workspace, tags=tags, description=description)
    with where.connect() as client:
        client.catalog.check_paths(absolute, workspace)
        kept = client.catalog.register(entry, overwrite=True)
    click.echo(entry_json(kept) if as_json else f"{kept.name}:{kept.version}")


def _told(entry: Entry) -> str:
    assert isinstance(entry.content, Dataset)
    first, *others = entry.content.paths
    return f"{entry.content.kind} {first}" + (f" and {len(others)} more" if others else "")


add_list_and_show(datasets, EntryKind.DATASET, "holds", _told)
