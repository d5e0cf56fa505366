"""`batchmesh datastores`: folders and blob containers under a name.

Secrets come from the environment or from a file: what stands on a command line can be read by all who use the host.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchmesh.cli.entries import add_list_and_show, entry_json, workspace_option
from batchmesh.cli.options import Where, json_option, mesh_options
from batchmesh.entries import AzureBlobContainer, Entry, EntryKind, LocalFolder

if TYPE_CHECKING:
    from batchmesh.entries import Content


@click.group()
def datastores() -> None:
    """Register, list and show datastores."""


@datastores.command()
@click.argument("name")
@click.option("--local", metavar="DIR", help="A folder that every host of the mesh sees at the same path.")
@click.option(
    "--azure-blob", metavar="ACCOUNT/CONTAINER", help="A blob container; anyone may read it, or a secret opens it."
)
@click.option(
    "--endpoint",
    envvar="BATCHMESH_AZURE_BLOB_ENDPOINT",
    default="",
    metavar="URL",
    help="URL of the account [env: BATCHMESH_AZURE_BLOB_ENDPOINT; default: https://ACCOUNT.blob.core.windows.net].",
)
@click.option("--account-key-env", metavar="VARIABLE", help="Environment variable that holds the account's key.")
@click.option("--account-key-file", metavar="FILE", help="File that holds it.")
@click.option("--sas-token-env", metavar="VARIABLE", help="Environment variable that holds a SAS token.")
@click.option("--sas-token-file", metavar="FILE", help="File that holds it.")
@click.option("--overwrite", is_flag=True, help="Take the place of another datastore of that name.")
@workspace_option
@mesh_options
@json_option
def register(
    name: str,
    local: str | None,
    azure_blob: str | None,
    endpoint: str,
    account_key_env: str | None,
    account_key_file: str | None,
    sas_token_env: str | None,
    sas_token_file: str | None,
    overwrite: bool,
    workspace: str,
    where: Where,
    as_json: bool,
) -> None:
    """Register a folder or a blob container as NAME, which is printed."""
    key = _secret("account-key", account_key_env, account_key_file)
    sas = _secret("sas-token", sas_token_env, sas_token_file)
    content = _content(local, azure_blob, endpoint, key, sas)
    with where.connect() as client:
        kept = client.catalog.register(Entry(name, content, workspace=workspace), overwrite=overwrite)
    click.echo(entry_json(kept) if as_json else kept.name)


def _content(local: str | None, azure_blob: str | None, endpoint: str, key: str, sas: str) -> Content:
    if bool(local) == bool(azure_blob):
        raise click.UsageError("Say where the datastore is: either --local DIR or --azure-blob ACCOUNT/CONTAINER.")
    if local:
        if key or sas:
            raise click.UsageError("A folder has no account key and no SAS token; leave them out.")
        return LocalFolder(os.path.abspath(local))
    account, slash, container = str(azure_blob).partition("/")
    if not (account and slash and container):
        raise click.UsageError(f"'{azure_blob}' is not ACCOUNT/CONTAINER.")
    return AzureBlobContainer(container, account, endpoint, key, sas)


def _secret(what: str, variable: str | None, file: str | None) -> str:
    """What the environment or a file holds; empty when neither is named. Never shown."""
    if variable and file:
        raise click.UsageError(f"--{what}-env and --{what}-file are two ways to say the same; give one of them.")
    if variable:
        if not os.environ.get(variable):
            raise click.UsageError(f"The environment variable {variable}, named by --{what}-env, is not set.")
        return os.environ[variable].strip()
    if not file:
        return ""
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise click.UsageError(f"The file {file}, named by --{what}-file, cannot be read: {reason}.") from None


def _told(entry: Entry) -> str:
    if isinstance(entry.content, AzureBlobContainer):
        return f"{entry.content.account}/{entry.content.container}"
    assert isinstance(entry.content, LocalFolder)
    return entry.content.path


add_list_and_show(datastores, EntryKind.DATASTORE, "is", _told)
