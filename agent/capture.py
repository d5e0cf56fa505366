"""What a worker prints: read from its pipes while it runs, so that no print of it waits for long."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_READ = 64 * 1024
#: Reads of one pipe at a time, so that a worker that never stops printing leaves the loop to others.
_READS = 16


class Pipe:
    """The agent's end of one stream of one worker. A worker that prints faster than this reads waits in its print."""

    def __init__(self, fd: int, write: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._write = write
        self._open = True
        asyncio.get_running_loop().add_reader(fd, self.read)

    def read(self) -> None:
        """Takes what is there now."""
        for _ in range(_READS if self._open else 0):
            try:
                data = os.read(self._fd, _READ)
            except BlockingIOError:
                return
            if not data:
                self.close()
                return
            self._write(data)

    def close(self) -> None:
        """Stops reading. What a process left behind still writes is lost."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._fd)
