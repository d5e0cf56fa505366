"""A stretch of network that can fail: a TCP port in front of a Unix socket, passing bytes both ways.

caller ──TCP──▶ Cable ──Unix socket──▶ whatever listens there
               (gate)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import StrEnum


class Direction(StrEnum):
    """Which way something goes, seen from the caller."""

    REQUESTS = "requests"
    RESPONSES = "responses"


BOTH = (Direction.REQUESTS, Direction.RESPONSES)
#: A socket closed with this resets its connection, as a host that has lost its state does.
_RESET = struct.pack("ii", 1, 0)
_PIECE = 65_536


class Cable:
    """All methods are called on the event loop that it lives on."""

    def __init__(self, path: str) -> None:
        """`path` is the Unix socket that it leads to."""
        self._path = path
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._gates = {direction: asyncio.Event() for direction in BOTH}
        self._plugged = True

    async def lay(self) -> str:
        """Listens; returns its address, host:port."""
        self.thaw()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def cut(self) -> None:
        """Resets all connections; what was on its way is lost. New ones are taken, unless it is unplugged."""
        for writer in self._ends:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self._ends.clear()
        for pump in self._pumps:
            pump.cancel()

    def unplug(self) -> None:
        """Cuts, and resets each new connection until it is plugged in again."""
        self._plugged = False
        self.cut()

    def plug(self) -> None:
        self._plugged = True

    def freeze(self, direction: Direction) -> None:
        """Bytes that go this way wait, pings among them, and nobody is told."""
        self._gates[direction].clear()

    def thaw(self) -> None:
        """What waited goes on, however late."""
        for gate in self._gates.values():
            gate.set()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        if not self._plugged:
            self.cut()
            return
        try:
            there, back = await asyncio.open_unix_connection(self._path)
        except OSError:
            writer.transport.abort()
            return
        self._ends.add(back)
        self._pump(reader, back, Direction.REQUESTS)
        self._pump(there, writer, Direction.RESPONSES)

    def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        task = asyncio.create_task(self._pass(reader, writer, self._gates[direction]))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(_PIECE):
                await gate.wait()
                writer.write(data)
                await writer.drain()
            await gate.wait()
        self._ends.discard(writer)
        writer.close()
