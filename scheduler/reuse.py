"""Whether an earlier job's output may be taken: digests of all that an output depends on, and what differs in them.

    settings ──▶ parts, a digest each ─┐
    files ─────▶ Listing ──────────────┴▶ key      a job with the same key gave the same output

Not part of it: nodes, processes, timeouts, tries, thresholds, logging, the output's folder, labels.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .model import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .store import Database

#: Files of which hashes are kept, so that it can be said how many differ; of more only that some do.
_MANY = 10_000
#: Bytes of a hash of a file's name, and of one of its size and stamp.
_HALF = 8
#: The part of a key that the listing is.
FILES = "input files"


class Listing:
    """The digest of an input's files, in their order; holds two short hashes each, of many files none."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._hashes: bytearray | None = bytearray()

    def begin_input(self) -> None:
        """What is added from now on is of the next input: mini-batches do not go over the end of one."""
        self._digest.update(b"|")

    def add(self, name: str, size: int, stamp: str) -> None:
        """`stamp` changes whenever the file's content does: an etag, or the time of its last change."""
        path, state = name.encode("utf-8", "surrogateescape"), f"{size} {stamp}".encode()
        self._digest.update(b"%d %b%d %b" % (len(path), path, len(state), state))
        if self._hashes is not None:
            self._hashes += _short(path) + _short(state)
            if len(self._hashes) > _MANY * 2 * _HALF:
                self._hashes = None

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    @property
    def hashes(self) -> bytes | None:
        """Two for each file, one after the other; None of too many."""
        return bytes(self._hashes) if self._hashes is not None else None


class Parts(NamedTuple):
    """What a job's output depends on: a digest for each part, by the words it is told in, and the files' hashes."""

    digests: dict[str, str]
    hashes: bytes | None

    @property
    def key(self) -> str:
        return _digest(self.digests)


def parts_of(settings: Mapping[str, Any], listing: Listing) -> Parts:
    """`settings` have names in words, in the order in which they are told, and values that JSON can hold."""
    digests = {name: _digest(value) for name, value in settings.items()}
    return Parts({**digests, FILES: listing.digest}, listing.hashes)


def changes(now: Parts, then: Parts) -> str:
    """What differs, in words."""
    names = [name for name in now.digests if now.digests[name] != then.digests.get(name)]
    return ", ".join(_files(now.hashes, then.hashes) if name == FILES else name for name in names)


def _files(now: bytes | None, then: bytes | None) -> str:
    if now is None or then is None:
        return FILES
    here, there = _by_name(now), _by_name(then)
    new = sum(there.get(name) != state for name, state in here.items())
    gone = len(there.keys() - here.keys())
    if new:
        return f"{new} of {len(here)} {FILES}"
    return f"{gone} of {len(there)} {FILES}, which are gone" if gone else f"the order of the {FILES}, or their inputs"


def _by_name(hashes: bytes) -> dict[bytes, bytes]:
    step = 2 * _HALF
    return {hashes[at : at + _HALF]: hashes[at + _HALF : at + step] for at in range(0, len(hashes), step)}


def _short(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_HALF).digest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# ---- what the database is asked for, and is told ----


class Earlier(NamedTuple):
    """A job that SUCCEEDED, having run itself; `progress` is a serialized Progress."""

    job_id: str
    progress: bytes
    parts: Parts


class Kin(NamedTuple):
    """The jobs that one is compared with; those of another `step_name` only for their outputs, not for what differs."""

    workspace: str
    entry_script: str
    step_name: str


def same(db: Database, kin: Kin, key: str) -> Iterator[Earlier]:
    """The jobs with that key, the newest first."""
    return _earlier(db, "r.key = ?", (*kin[:2], key))


def latest(db: Database, kin: Kin) -> Iterator[Earlier]:
    """The jobs of the same step, the newest first."""
    return _earlier(db, "r.step_name = ?", kin)


def _earlier(db: Database, condition: str, values: tuple[str, ...]) -> Iterator[Earlier]:
    sql = (
        "SELECT j.job_id, j.progress, r.parts, r.files FROM reuse r JOIN jobs j ON j.number = r.job "  # noqa: S608 ours
        f"WHERE r.workspace = ? AND r.entry_script = ? AND {condition} AND j.state = ? ORDER BY r.job DESC"
    )
    for job_id, progress, parts, files in db.execute(sql, (*values, int(State.SUCCEEDED))):
        yield Earlier(job_id, progress or b"", Parts(json.loads(parts), files))


def keep(number: int, kin: Kin, parts: Parts) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """Keeps the parts of a job that is going to run."""
    sql = (
        "INSERT OR REPLACE INTO reuse (job, workspace, entry_script, step_name, key, parts, files) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)"
    )
    return [(sql, [(number, *kin, parts.key, json.dumps(parts.digests), parts.hashes)])]


def forget(number: int) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The job goes on with another source: its output is of no single key any more."""
    return [("DELETE FROM reuse WHERE job = ?", [(number,)])]


def written_before(db: Database, number: int) -> list[tuple[str, bytes]]:
    """Of the jobs that a job comes after: whose output theirs is, their own or that which they took, in which of its
    rounds, and their specs."""
    sql = (
        "SELECT j.job_id, j.reused_from, coalesce(ran.round, -1), j.spec FROM predecessors p "
        "JOIN jobs j ON j.job_id = p.predecessor "
        "LEFT JOIN jobs ran ON ran.job_id = CASE WHEN j.reused_from = '' THEN j.job_id ELSE j.reused_from END "
        "WHERE p.job = ? ORDER BY p.predecessor"
    )
    rows = db.execute(sql, (number,))
    return [(f"{taken or job_id} {round_}", spec) for job_id, taken, round_, spec in rows]
