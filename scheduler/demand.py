"""The line to the supervisor of this host, which starts and ends the agents of local compute targets.

    compute targets ──demands──▶ Unix socket ──▶ supervisor ──starts, ends──▶ agents
                    ◀──what there is, what went wrong──┘

One JSON object a line. From here: {"demands": [{"compute_target", "nodes", "slots", "idle"}, …]}, all local targets at
once; an agent of one that is not among them has to end. `slots` 0 are the host's cores; `idle` are the addresses of its
agents that have nothing to do and may end. From there: {"crew": {compute target: agents}} once at its begin, and
{"compute_target", "error"}, with an empty error once all is well again.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Bytes that wait for a supervisor which does not read; above, it is told again later.
_WAITING = 2**20
#: Seconds for the supervisor's first line, which says what agents there are, and between two tries to hear it.
_FIRST_LINE, _AGAIN = 5.0, 1.0


class Demand:
    """Open while the supervisor answers. `path` is its socket; empty: there is none."""

    def __init__(self, path: str, hear: Callable[[dict[str, Any]], None]) -> None:
        """`hear` gets each line that the supervisor sends."""
        self._path = path
        self._hear = hear
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._told_why = ""

    @property
    def watched(self) -> bool:
        """Whether somebody starts agents here."""
        return self._writer is not None and not self._writer.is_closing()

    async def open(self) -> None:
        """Returns once the first line is heard; a supervisor that is not there, or busy, leaves the line closed."""
        if not self._path:
            return
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(self._path)
            self._heard(await asyncio.wait_for(self._reader.readline(), _FIRST_LINE))
        except (OSError, ValueError, TimeoutError) as error:
            self._close_for("supervisor_does_not_answer", repr(error))

    async def listen(self) -> None:
        """Hears what the supervisor says, for as long as the scheduler lives; a line that closes is opened again."""
        while self._path:
            if self.watched:
                await self._hear_all()
            await asyncio.sleep(_AGAIN)
            await self.open()

    async def _hear_all(self) -> None:
        try:
            while self._reader is not None and (line := await self._reader.readline()):
                self._heard(line)
        except (OSError, ValueError) as error:
            self._close_for("supervisor_not_understood", repr(error))
        self.close()

    def _close_for(self, event: str, why: str) -> None:
        """Told once, however often it is tried."""
        if why != self._told_why:
            structlog.get_logger().warning(event, path=self._path, why=why)
        self._told_why = why
        self.close()

    def _heard(self, line: bytes) -> None:
        self._hear(json.loads(line))

    def tell(self, demands: Sequence[dict[str, Any]]) -> None:
        if self._writer is None or self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() < _WAITING:
            self._writer.write(json.dumps({"demands": demands}).encode() + b"\n")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
