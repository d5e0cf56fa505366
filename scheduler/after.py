"""Jobs that come after others: which may begin, which have to wait, and which fail because another one did.

A job waits until all of its predecessors have SUCCEEDED, and fails as soon as one of them cannot any more. Pure but for
the questions at the end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .model import Failure, FailureKind, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .store import Database

_MAGIC = re.compile(r"[*?\[]")


class Predecessor(NamedTuple):
    """A job that another one comes after. `state` is None when it was deleted; `cause` is the sentence it failed by."""

    job_id: str
    state: State | None
    cause: str = ""


def failure(predecessors: Iterable[Predecessor]) -> Failure | None:
    """The failure of a job one of whose predecessors cannot succeed any more."""
    for each in predecessors:
        if each.state not in _ENDS:
            continue
        cause = f": {each.cause}" if each.cause and each.state is State.FAILED else "."
        sentence = f"Job {each.job_id}, which it comes after, {_ENDS[each.state]}{cause}"
        return Failure(FailureKind.PREDECESSOR, sentence)
    return None


_ENDS = {State.FAILED: "failed", State.CANCELLED: "was cancelled", State.LOST: "was lost", None: "was deleted"}


def awaited(predecessors: Iterable[Predecessor]) -> str:
    """What the job waits for, in a few words; empty when it may begin."""
    open_ = [each.job_id for each in predecessors if each.state is not State.SUCCEEDED]
    if not open_:
        return ""
    others = f" and {len(open_) - 1} more" if len(open_) > 1 else ""
    return f"job {open_[0]}{others} {'have' if others else 'has'} not ended yet"


def circle(after: Mapping[str, Iterable[str]]) -> list[str]:
    """Jobs that come after one another in a circle, each after the next one; none when there is no circle."""
    done: set[str] = set()
    for start in after:
        path = [start]
        branches = [iter(after[start])]
        while path:
            step = next((each for each in branches[-1] if each in after and each not in done), None)
            if step is None:
                done.add(path.pop())
                branches.pop()
            elif step in path:
                return path[path.index(step) :]
            else:
                path.append(step)
                branches.append(iter(after[step]))
    return []


def ahead(job_id: str, after: Mapping[str, Iterable[str]]) -> set[str]:
    """All jobs that come before that one, as far as `after` tells of them."""
    found: set[str] = set()
    todo = list(after.get(job_id, ()))
    while todo:
        each = todo.pop()
        if each not in found:
            found.add(each)
            todo += after.get(each, ())
    return found


def there_now(inputs: Iterable[str], outputs: Iterable[str]) -> tuple[str, ...]:
    """The inputs that none of these outputs has a part in: those that can be looked at before the outputs are there."""
    written = [f"{output.rstrip('/')}/" for output in outputs]

    def is_written(text: str) -> bool:
        magic = _MAGIC.search(text)
        fixed = text[: magic.start()] if magic else f"{text.rstrip('/')}/"
        return any(fixed.startswith(output) or output.startswith(fixed) for output in written)

    return tuple(text for text in inputs if not is_written(text))


# ---- what the database is asked for to tell ----


def predecessors(db: Database, number: int) -> list[tuple[str, int | None, bytes | None]]:
    """Id, state and error (a serialized Failure) of those of a job; without state when they were deleted."""
    sql = (
        "SELECT p.predecessor, j.state, j.error FROM predecessors p LEFT JOIN jobs j ON j.job_id = p.predecessor "
        "WHERE p.job = ? ORDER BY p.predecessor"
    )
    return db.execute(sql, (number,)).fetchall()


def waiting_behind(db: Database, job_id: str) -> str | None:
    """The id of a job that comes after that one and was not let in: a scheduler that starts again looks for it anew."""
    sql = (
        "SELECT j.job_id FROM predecessors p JOIN jobs j ON j.number = p.job WHERE p.predecessor = ? AND j.let_in = 0 "
        "AND j.state IN (?, ?, ?) ORDER BY j.number LIMIT 1"
    )
    waits = (int(State.WAITING), int(State.PENDING), int(State.COMMITTING))
    row = db.execute(sql, (job_id, *waits)).fetchone()
    return row[0] if row else None


def known(db: Database, job_ids: Iterable[str]) -> set[str]:
    """Those of these jobs that there are."""
    return {each for each in job_ids if db.execute("SELECT 1 FROM jobs WHERE job_id = ?", (each,)).fetchone()}


def unfinished_ahead(db: Database, job_ids: Iterable[str]) -> dict[str, bytes]:
    """The specs of these jobs, and of all that come before them, as far as they have not SUCCEEDED."""
    found: dict[str, bytes] = {}
    todo = list(job_ids)
    while todo:
        job_id = todo.pop()
        sql = "SELECT number, spec FROM jobs WHERE job_id = ? AND state <> ?"
        row = db.execute(sql, (job_id, int(State.SUCCEEDED))).fetchone()
        if row is not None and job_id not in found:
            found[job_id] = row[1]
            todo += [each for each, _, _ in predecessors(db, row[0])]
    return found
