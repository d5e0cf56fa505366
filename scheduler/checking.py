"""What can be said of a job's inputs and side inputs before it is set in motion."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from batchmesh.errors import DatastoreFailed, InputRefused, Refused
from batchmesh.v1 import job_pb2

from .inputs import Inputs
from .planner import check
from .spec import plan_request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from .datastores import Datastores
    from .inputs import Remote

_Answer = TypeVar("_Answer")

#: Apart from those on which jobs go on: one of these may wait for a datastore that does not answer.
_THREADS = ThreadPoolExecutor(16, thread_name_prefix="check")


async def check_input(spec: job_pb2.JobSpec, datastores: Datastores | None, inputs: Sequence[str] | None = None) -> str:
    """The kind of the job's inputs, or of these among them, looked at on a thread.

    Errors: InputRefused, also for a datastore that fails; NoEntry, BadEntry, MeshUnreachable.
    """
    looked_at = job_pb2.JobSpec()
    looked_at.CopyFrom(spec)
    if inputs is not None:
        looked_at.inputs[:] = inputs
    try:
        remote = datastores.asked(spec.workspace) if datastores else None
        return await _on_a_thread(check, plan_request(looked_at), remote)
    except (ValueError, DatastoreFailed) as error:
        raise InputRefused(_sentence(error)) from None


async def check_side_inputs(spec: job_pb2.JobSpec, datastores: Datastores | None, references: Collection[str]) -> None:
    """Looks for those side inputs of the job that are among `references`, on a thread.

    Errors: as of check_input; they name the side input.
    """
    for each in spec.side_inputs:
        if each.reference in references:
            try:
                remote = datastores.asked(spec.workspace) if datastores else None
                await _on_a_thread(_look_for, each.reference, remote)
            except (ValueError, DatastoreFailed) as error:
                raise InputRefused(f"The side input {each.name} cannot be used: {_sentence(error)}") from None
            except Refused as error:
                raise type(error)(f"The side input {each.name} cannot be used: {error}") from None


async def _on_a_thread(look: Callable[..., _Answer], *arguments: object) -> _Answer:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(look, *arguments))


def _sentence(error: Exception) -> str:
    """What reads the data says its sentences without their end."""
    return f"{str(error).removesuffix('.')}."


def _look_for(reference: str, remote: Remote | None) -> None:
    Inputs([reference], remote).first(0)
