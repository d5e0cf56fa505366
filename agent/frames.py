"""The framing between an agent and one of its workers, and the shared word that outlives a dead worker.

    agent ──SETUP, JOB, RUN (many), FETCHED, END──────▶ worker        one inherited socketpair, non-blocking
    agent ◀──READY, INIT_FAILED, RESULTS (many), FETCH── worker
    agent ◀══(sequence, phase, since)══════════════════ worker        shared memory, written before each step
    agent ◀══(sequence, name)══════════════════════════ worker        shared memory, before the run() of a lone item
    agent ══(recalled: from, to)═══════════════════════▶ worker        shared memory, read before each mini-batch

Mini-batches carry no number on the wire: both sides count them from 1 in the life of one worker, and answers come in
that order. The worker's side runs in the user's Python: CPython 3.9 syntax, standard library only.
"""

from __future__ import annotations

import json
import mmap
import struct
from enum import IntEnum
from time import monotonic_ns
from typing import Any, NamedTuple

# Kinds of message, agent to worker.
#: JSON: everything a worker is for its whole life. The first message.
SETUP = 1
#: JSON: what differs from job to job. Before the first RUN of each job.
JOB = 2
#: Mini-batches.
RUN = 3
#: Call shutdown() and exit.
END = 4
#: JSON, the answer to the one FETCH that is open: {"paths": [local path, …]} in its order, or {"error": sentence},
#: with "later" when it may be there later.
FETCHED = 5

# Kinds of message, worker to agent.
#: init() has returned.
READY = 10
#: JSON: the Failure; the worker exits after it.
INIT_FAILED = 11
#: Results, in the order of the mini-batches.
RESULTS = 12
#: JSON: {"references": [datastore://NAME/PATH, model://NAME/VERSION or dataset://NAME/VERSION, …]}: have them on this
#: node and say where; "stamps" beside them, if it is there, says for each what the file has to be. The worker waits for
#: FETCHED; one at a time is open.
FETCH = 13

#: Bytes in the body (below 4 GiB), kind.
HEADER = struct.Struct("<IB3x")
#: Attempt, mini-batch, try number, bytes of the payload that follows.
MINI_BATCH = struct.Struct("<QQII")
#: Kind (0: it succeeded and a frame follows; else a Failure's kind and its JSON), bytes that follow, rows, items
#: succeeded, items failed, unix microseconds at which run() began (0: it did not), microseconds in run() and in all.
RESULT = struct.Struct("<IIQQQQQQ")


class Kind(IntEnum):
    """Kinds of a Failure that come up on a node, with their numbers in job.proto (a test compares them)."""

    RUN_RAISED = 1
    RUN_TIMEOUT = 2
    BAD_RETURN = 3
    WORKER_CRASHED = 4
    READ_FAILED = 5
    INIT_FAILED = 6
    BAD_RESULT = 7
    UNREADABLE_FILE = 8
    ENVIRONMENT = 10
    NOT_STARTED = 15
    OUT_OF_MEMORY = 17


class Failure(NamedTuple):
    """Failed user work: one sentence, and the user's traceback where there is one. On the socket it is a JSON array."""

    kind: int
    message: str
    traceback: str = ""

    def encoded(self) -> bytes:
        return json.dumps(self).encode("ascii")

    @classmethod
    def decoded(cls, encoded: bytes) -> Failure:
        return cls(*json.loads(encoded))


# What a worker is doing, in the shared word.
IDLE = 0
READING = 1
RUNNING = 2
RENDERING = 3
SENDING = 4

#: Bytes of the shared memory.
WORD_SIZE = 4096
_PHASE_BITS = 3
#: Where the name of a lone item begins, and the bytes that it may have; of a longer one the end is kept.
_NAME = 64
NAME_SIZE = 2048


class Moment(NamedTuple):
    """What a worker said last: in `phase` of its mini-batch `sequence` since `since_ns` of the monotonic clock."""

    sequence: int
    phase: int
    since_ns: int


class Word:
    """The shared word. One process writes it; another reads it, also after the writer was killed."""

    def __init__(self, fd: int) -> None:
        """Maps the file; `fd` may be closed afterwards."""
        self._memory = mmap.mmap(fd, WORD_SIZE)
        self._cells = memoryview(self._memory).cast("Q")

    def write(self, sequence: int, phase: int, now_ns: int) -> None:
        """Eight bytes at a time are written whole; the time goes first, so that it is never older than its phase."""
        self._cells[1] = now_ns
        self._cells[0] = sequence << _PHASE_BITS | phase

    def say(self, sequence: int, phase: int) -> None:
        self.write(sequence, phase, monotonic_ns())

    def read(self) -> Moment:
        while True:
            first, since = self._cells[0], self._cells[1]
            if self._cells[0] == first and self._cells[1] == since:
                return Moment(first >> _PHASE_BITS, first & (1 << _PHASE_BITS) - 1, since)

    def call(self, sequence: int, name: str) -> None:
        """The one item of a mini-batch. Its sequence goes last: what stands here of another one says nothing."""
        encoded = name.encode("utf-8", "backslashreplace")[-NAME_SIZE:]
        self._memory[_NAME : _NAME + len(encoded)] = encoded
        self._cells[5] = len(encoded)
        self._cells[4] = sequence

    def called(self, sequence: int) -> str:
        """The name of the mini-batch's one item; "" if it has several, or none that is known."""
        if self._cells[4] != sequence:
            return ""
        return self._memory[_NAME : _NAME + min(self._cells[5], NAME_SIZE)].decode("utf-8", "replace")

    def recall(self, first: int, last: int) -> None:
        """The agent's only word: mini-batches `first` to `last` are not to be begun."""
        self._cells[3] = last
        self._cells[2] = first

    def is_recalled(self, sequence: int) -> bool:
        return self._cells[2] <= sequence <= self._cells[3]

    def close(self) -> None:
        self._cells.release()
        self._memory.close()


def message(kind: int, body: bytes = b"") -> bytes:
    return HEADER.pack(len(body), kind) + body


def json_message(kind: int, fields: Any) -> bytes:
    return message(kind, json.dumps(fields).encode("ascii"))


def run_message(mini_batches: list[bytes]) -> bytes:
    """`mini_batches` are packed MINI_BATCH headers and payloads in turn."""
    return message(RUN, b"".join(mini_batches))


class Inbox:
    """Cuts the bytes that a socket gives into whole messages, copying each byte at most once more."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        #: Bytes that the message under way has in all, its header included; 0 when its header is not there yet.
        self.expected = 0

    def feed(self, data: bytes) -> list[tuple[int, memoryview]]:
        """The messages that are whole now, as (kind, body)."""
        self._parts.append(data)
        self._held += len(data)
        if self._held < (self.expected or HEADER.size):
            return []
        view = memoryview(data if len(self._parts) == 1 else b"".join(self._parts))
        messages, at = self._cut(view)
        self._held -= at
        self._parts = [bytes(view[at:])] if self._held else []
        return messages

    def _cut(self, view: memoryview) -> tuple[list[tuple[int, memoryview]], int]:
        messages: list[tuple[int, memoryview]] = []
        at, size = 0, len(view)
        self.expected = 0
        while size - at >= HEADER.size:
            length, kind = HEADER.unpack_from(view, at)
            end = at + HEADER.size + length
            if end > size:
                self.expected = end - at
                break
            messages.append((kind, view[at + HEADER.size : end]))
            at = end
        return messages, at
