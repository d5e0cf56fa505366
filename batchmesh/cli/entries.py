"""What `batchmesh models`, `datasets` and `datastores` have in common: `list`, `show`, and how an entry looks."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from batchmesh.cli.options import Where, json_option, mesh_options, pairs
from batchmesh.entries import DEFAULT_WORKSPACE, Entry, EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECRETS = ("account_key", "sas_token")


def workspace_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--workspace, handed on as `workspace`."""
    decorated: Callable[..., Any] = click.option(
        "--workspace", default=DEFAULT_WORKSPACE, metavar="NAME", help=f"Namespace [default: {DEFAULT_WORKSPACE}]."
    )(command)
    return decorated


def described(command: Callable[..., Any]) -> Callable[..., Any]:
    """--tag and --description, handed on as `tags` and `description`."""
    command = click.option("--description", default="", metavar="TEXT", help="Kept with the entry.")(command)
    return click.option(
        "--tag",
        "tags",
        multiple=True,
        callback=pairs,
        metavar="NAME=VALUE",
        help="Kept with the entry; may be repeated.",
    )(command)


def entry_json(entry: Entry) -> str:
    """One line. A datastore's secrets have no place in it."""
    plain = dataclasses.asdict(entry)
    content = {name: value for name, value in plain["content"].items() if name not in _SECRETS}
    registered = entry.registered.isoformat() if entry.registered else None
    return json.dumps({"kind": entry.kind, **plain, "content": content, "registered": registered})


def add_list_and_show(group: click.Group, kind: EntryKind, holds: str, told: Callable[[Entry], str]) -> None:
    """The two commands that each kind has. `holds` heads the column in which `told` says what an entry is."""

    @group.command("list", help=f"List the newest {kind} of each name, or all versions of NAME.")
    @click.argument("name", default="")
    @workspace_option
    @mesh_options
    @json_option
    def list_(name: str, workspace: str, where: Where, as_json: bool) -> None:
        with where.connect() as client:
            found = list(client.catalog.list(kind, workspace, name))
        if as_json:
            for entry in found:
                click.echo(entry_json(entry))
            return
        from batchmesh.cli.table import print_table

        rows = ((entry.name, str(entry.version), told(entry), _moment(entry), _tags(entry)) for entry in found)
        print_table(("name", "version", holds, "registered", "tags"), rows)

    @group.command("show", help=f"Show all that is known of the {kind} NAME, or of one VERSION of it.")
    @click.argument("name", metavar="NAME[:VERSION]")
    @workspace_option
    @mesh_options
    @json_option
    def show(name: str, workspace: str, where: Where, as_json: bool) -> None:
        name, version = _versioned(name)
        with where.connect() as client:
            entry = client.catalog.get(kind, name, version, workspace)
        if as_json:
            click.echo(entry_json(entry))
            return
        from batchmesh.cli.table import print_table

        print_table(("", entry.name), _facts(entry))


def _versioned(text: str) -> tuple[str, int]:
    """NAME[:VERSION]; 0 is the newest."""
    name, colon, version = text.partition(":")
    if colon and not (version.isascii() and version.isdecimal()):
        raise click.UsageError(f"'{text}' is not NAME[:VERSION]; a version is a number from 1.")
    return name, int(version or 0)


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    yield "workspace", entry.workspace
    yield "version", str(entry.version)
    yield "registered", _moment(entry)
    if entry.description:
        yield "description", entry.description
    if entry.tags:
        yield "tags", _tags(entry)
    for field in dataclasses.fields(entry.content):
        value = getattr(entry.content, field.name)
        if value and field.name not in _SECRETS:
            yield field.name.replace("_", " "), _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    return "\n".join(value) if isinstance(value, tuple) else str(value)


def _tags(entry: Entry) -> str:
    return _shown(dict(entry.tags))


def _moment(entry: Entry) -> str:
    return entry.registered.astimezone().isoformat(" ", "seconds") if entry.registered else ""
