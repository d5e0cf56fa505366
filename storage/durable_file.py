"""A file that goes to the disk while it is being written, so that little is left to wait for at its end.

write ──each 8 MiB──▶ a thread: fdatasync of what is there
sync  ──────────────▶ waits for it, and makes durable what has come since
"""

from __future__ import annotations

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import ReadableBuffer

#: Bytes that are worth a sync of their own. The next one begins when the last has ended, however many come meanwhile.
_STEP = 8 * 2**20


class DurableFile(io.FileIO):
    """A new file, unbuffered. What a sync beside the writing says is raised by the next write() or sync(): the kernel
    tells it once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w")
        self._thread = ThreadPoolExecutor(1, "durable-file")
        self._syncing: Future[None] | None = None
        self._unsynced = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Writes some or all of it, as FileIO does; raises OSError."""
        written = super().write(data)
        self._unsynced += written
        if self._unsynced >= _STEP and (self._syncing is None or self._syncing.done()):
            self._raise_what_was_said()
            self._unsynced = 0
            self._syncing = self._thread.submit(os.fdatasync, self.fileno())
        return written

    def sync(self) -> None:
        """Returns when all that was written is durable; raises OSError."""
        self._raise_what_was_said()
        os.fsync(self.fileno())

    def close(self) -> None:
        """Waits for a sync that is under way."""
        self._thread.shutdown()
        super().close()

    def _raise_what_was_said(self) -> None:
        if self._syncing is not None:
            self._syncing.result()
