"""Where the --output of a summary_only job leads on this node: to the job's own folder, if it is seen from here.

OpenPool.spec.output ──(a datastore's: its folder)──▶ DIR ──▶ DIR/.batchmesh-<job>-marker holds the job's id?
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import grpc

from batchmesh import calls, status
from batchmesh.datastores.opening import open_datastore
from batchmesh.datastores.reference import parse
from batchmesh.entries import LocalFolder
from batchmesh.entry_messages import entry_of
from batchmesh.v1 import storage_pb2

if TYPE_CHECKING:
    from .fetching import Asker

#: Seconds that a file system has to say whether the marker is there.
_PATIENCE = 10.0


async def shared_folder(asker: Asker, patience: float) -> str:
    """The folder, if storage has left its marker there for this job; else empty: it is not seen from this node.

    `patience` is how long a storage that does not answer is asked, in seconds. Errors: BatchmeshError.
    """
    opening = asker.opening
    folder = await _folder(asker, patience)
    if not folder:
        return ""
    marker = os.path.join(folder, f".batchmesh-{opening.job_id}-marker")
    try:
        found = await asyncio.wait_for(asyncio.to_thread(_content, marker), _PATIENCE)
    except TimeoutError:
        return ""
    return folder if found == opening.job_id else ""


async def _folder(asker: Asker, patience: float) -> str:
    """The absolute path that is meant; empty for what lies in a remote datastore."""
    output = asker.opening.key.output
    reference = parse(output)
    if reference is None:
        return output
    request = storage_pb2.GetCredentialsRequest(workspace=asker.opening.workspace, datastore=reference.datastore)
    try:
        got = await calls.retried(patience)(asker.storage.GetCredentials)(request, timeout=calls.UNARY_DEADLINE)
    except grpc.RpcError as error:
        raise status.from_rpc_error(error, "Storage") from None
    entry = entry_of(got.entry)
    return (open_datastore(entry).local(reference.path) or "") if isinstance(entry.content, LocalFolder) else ""


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1000)
    except (OSError, UnicodeDecodeError):
        return ""
