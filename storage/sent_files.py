"""Files that scripts wrote to an output folder which their node does not see, as agents send them.

agent ──WriteOutputFile──▶ jobs/<id>/incoming/<one-off> ──whole, durable──▶ jobs/<id>/files/<name> ──commit──▶ output
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh.errors import BadName, CutOff, OutputChanged

from .disk import make_folder, remove_durably, said_clearly, sync_folder

if TYPE_CHECKING:
    from .places import Places
    from .reservation import Reservations


class NewFile:
    """A file on its way in. It is kept by keep(), and gone after discard(). All of it blocks."""

    def __init__(self, places: Places, reservations: Reservations, job_id: str, name: str) -> None:
        """Raises BadName, OutputChanged for a job that holds no output, and DiskFull."""
        self._path = _place(places, reservations, job_id, name)
        self._name = name
        incoming = places.incoming(job_id)
        with said_clearly(incoming):
            make_folder(incoming)
            handle, temporary = tempfile.mkstemp(dir=incoming)
        self._temporary = Path(temporary)
        self._file = os.fdopen(handle, "wb")
        self._is_whole = False

    def write(self, data: bytes, complete: bool) -> None:
        """Adds bytes; `complete` with the last ones. Raises DiskFull."""
        with said_clearly(self._path):
            self._file.write(data)
        self._is_whole = complete

    def keep(self) -> None:
        """Gives it its name, durably; raises CutOff, OutputUnwritable or DiskFull."""
        if not self._is_whole:
            raise CutOff(f"{self._path.name} was cut off before its last bytes; send it again.")
        with said_clearly(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            try:
                make_folder(self._path.parent)
                self._temporary.replace(self._path)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                sentence = f"'{self._name}' would be a folder and a file; have the script write it under another name."
                raise BadName(sentence) from None
            sync_folder(self._path.parent)

    def discard(self) -> None:
        """Leaves nothing behind of what was not kept."""
        with suppress(OSError):  # a full disk has been told of already
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def remove(places: Places, reservations: Reservations, job_id: str, name: str) -> None:
    """The script has removed what it had written. Raises BadName, and OutputChanged for a job that holds no output."""
    path = _place(places, reservations, job_id, name)
    with said_clearly(path), suppress(NotADirectoryError, IsADirectoryError):
        remove_durably(path)


def _place(places: Places, reservations: Reservations, job_id: str, name: str) -> Path:
    path = places.file(job_id, name)
    if not reservations.has(job_id):
        raise OutputChanged(f"Job {job_id} has ended, or was never begun; nothing more of its output is taken.")
    return path
