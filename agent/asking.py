"""What a worker asks of its agent while it reads, or from within the user's code: where references lie on this node.

    ask() ──FETCH──▶ agent        what else comes meanwhile (RUN, END) waits in the Link
    ask() ◀─FETCHED─ agent

Runs in the user's Python: CPython 3.9 syntax, standard library only.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from . import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchmesh.data.slices import SliceFields

#: How a file's name begins that is no path of this host.
_SCHEME = "datastore://"

#: Sends a FETCH and waits for its answer; the worker, whose process id is `_pid`, sets it at its start.
_exchange: Callable[[bytes], bytes] | None = None
_pid = 0


class NotThere(Exception):
    """The agent cannot have it on this node; the message is one sentence that names it."""


class NotNow(NotThere):
    """The agent cannot have it at present, which is no fault of what was asked for."""


def begin(exchange: Callable[[bytes], bytes]) -> None:
    """`exchange` sends a FETCH and returns the body of FETCHED."""
    global _exchange, _pid
    _exchange, _pid = exchange, os.getpid()


def ask(references: Sequence[str], stamps: Sequence[str] = ()) -> list[str]:
    """The local paths of references, in their order; `stamps` are what the files were when the job was planned.

    They are there until the mini-batch that is being run has been answered; what init() asks for, as long as the
    worker is. Errors: NotThere.
    """
    if _exchange is None:
        raise NotThere(f"{references[0]} can only be had in a worker")
    if os.getpid() != _pid:  # it would take answers and mini-batches from the worker's socket
        raise NotThere(f"{references[0]} can only be had in the worker itself; ask there, and hand the path on")
    wish: dict[str, Any] = {"references": list(references)}
    if stamps:
        wish["stamps"] = list(stamps)
    answer = json.loads(_exchange(frames.json_message(frames.FETCH, wish)))
    if "error" in answer:
        raise (NotNow if answer.get("later") else NotThere)(answer["error"])
    paths: list[str] = answer["paths"]
    return paths


class Local(NamedTuple):
    """A slice whose files are on this node. `names` says what the planner called them, by local path."""

    fields: SliceFields
    names: dict[str, str]

    def named(self, text: str) -> str:
        """`text` with each local path replaced by what the planner called it."""
        for path, name in self.names.items():
            text = text.replace(path, name)
        return text


def wanted(fields: SliceFields) -> tuple[list[str], list[str]]:
    """The references in a slice, and what each of those files has to be, "" where that does not matter."""
    if fields["kind"] == "files":
        references = [each for each in fields["files"] if each.startswith(_SCHEME)]
        return references, [""] * len(references)
    return ([fields["file"]], [fields.get("stamp", "")]) if fields["file"].startswith(_SCHEME) else ([], [])


def local(fields: SliceFields) -> Local:
    """The slice with local paths in place of references. Errors: NotThere."""
    references, stamps = wanted(fields)
    if not references:
        return Local(fields, {})
    paths = dict(zip(references, ask(references, stamps)))  # noqa: B905  (CPython 3.9)
    names = {path: name for name, path in paths.items()}
    if fields["kind"] != "files":
        return Local({**fields, "file": paths[fields["file"]]}, names)
    return Local({**fields, "files": [paths.get(each, each) for each in fields["files"]]}, names)
