"""A worker's replies, joined while mini-batches are short, and never held for long behind one that is not.

Runs in the user's Python: CPython 3.9 syntax, standard library only.
"""

from __future__ import annotations

import threading
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING

from . import frames

if TYPE_CHECKING:
    from typing import Protocol

    class Sender(Protocol):
        """The worker's end of the socket."""

        def send(self, part: bytes) -> None: ...


#: Replies wait for each other at most that long (nanoseconds) while the mini-batches after them are short.
JOIN_NS = 5_000_000
#: Seconds after which replies are sent from beside the main thread, which is in a run() that was expected to be short.
_BACKSTOP = 0.01
#: Replies are sent when they are more than this (bytes).
_FULL = 256 * 1024


class AgentGone(Exception):
    """The agent has closed its end of the socket."""


class Replies:
    """What is to be sent. A thread that begins with the first joining sends what a long run() would hold back."""

    def __init__(self, link: Sender) -> None:
        self._link = link
        self._parts: list[bytes] = []
        self._held = 0
        self._oldest_ns = 0
        self._lock = threading.Lock()
        self._joining = threading.Event()
        self._backstop: threading.Thread | None = None

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, header: bytes, frame: bytes) -> None:
        with self._lock:
            if not self._parts:
                self._oldest_ns = monotonic_ns()
            self._parts.append(header)
            self._parts.append(frame)
            self._held += len(header) + len(frame)

    def due(self, now_ns: int) -> bool:
        """Whether the replies have waited enough. False leaves them to the next call, or to the thread."""
        if now_ns - self._oldest_ns >= JOIN_NS or self._held >= _FULL:
            return True
        if self._backstop is None:
            self._backstop = threading.Thread(target=self._stand_by, name="batchmesh-replies", daemon=True)
            self._backstop.start()
        if not self._joining.is_set():
            self._joining.set()
        return False

    def flush(self) -> None:
        """Sends them, waiting for room. Errors: AgentGone."""
        with self._lock:
            self._send()

    def send(self, message: bytes) -> None:
        """Sends them, and then another message. Errors: AgentGone."""
        with self._lock:
            self._send()
            self._link.send(message)

    def _send(self) -> None:
        if not self._parts:
            return
        head = frames.HEADER.pack(self._held, frames.RESULTS)
        parts = [head, *self._parts]
        self._parts.clear()
        joined = [b"".join(parts)] if self._held < _FULL else parts
        self._held = 0
        for part in joined:
            self._link.send(part)

    def _stand_by(self) -> None:
        while True:
            self._joining.wait()
            self._joining.clear()
            sleep(_BACKSTOP)
            with self._lock:
                waited = self._parts and monotonic_ns() - self._oldest_ns > JOIN_NS
                try:
                    if waited:
                        self._send()
                except (AgentGone, OSError):
                    return
