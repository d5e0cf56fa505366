"""What preload.c reads: when the syncs of a service fail, and how far its clock is off. Takes effect at once."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("preload.c")
#: Nanoseconds that the clock is off, and the errno of syncs.
_CLOCK, _SYNC = 0, 8


def compiler() -> str | None:
    """The C compiler that builds it; None where there is none."""
    return shutil.which("cc")


def built(folder: Path) -> Path:
    """Compiles it; returns the library's path."""
    library = folder / "preload.so"
    subprocess.run([compiler() or "cc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    return library


class Control:
    """Of one service, over all its lives."""

    def __init__(self, library: Path, path: Path) -> None:
        """`path` is of a file of its own."""
        self._library = library
        self._path = path
        path.write_bytes(bytes(16))

    @property
    def environment(self) -> dict[str, str]:
        """What loads it."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CONTROL": str(self._path)}

    def set_clock(self, seconds: int) -> None:
        """The wall clock is off by that much from now on."""
        self._write(_CLOCK, seconds * 10**9)

    def set_sync_error(self, number: int) -> None:
        """Each fsync and fdatasync fails with that errno from now on; 0: none does."""
        self._write(_SYNC, number)

    def _write(self, offset: int, value: int) -> None:
        with self._path.open("r+b") as file:
            file.seek(offset)
            file.write(struct.pack("q", value))
