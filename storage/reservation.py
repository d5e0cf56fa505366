"""Reservations: which output folder belongs to which job until it is committed or released. Durable."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh.errors import OutputChanged, OutputNotEmpty, OutputReserved, OutputUnwritable, SpecRefused

from .disk import make_folder, remove_durably, said_clearly, write_durably

if TYPE_CHECKING:
    from .places import Places

#: The folder of the report in the output folder.
REPORT = "job_report"


@dataclass(frozen=True)
class Reservation:
    """What one job holds."""

    job_id: str
    #: The folder by its real path: two spellings of one folder are one folder.
    folder: str
    #: Identity of the folder; a mount that has gone, or a folder made anew, is not what was reserved.
    device: int
    inode: int
    #: The folder was made for this job, and goes again if the job is refused.
    created: bool
    overwrite: bool
    #: Empty when the job writes no append_row file.
    file_name: str


def hidden_name(job_id: str, what: str) -> str:
    """Name of something of ours in an output folder that is not published yet."""
    return f".batchmesh-{job_id}-{what}"


class Reservations:
    """All reservations of this storage. All of it blocks."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._of: dict[str, Reservation] = {}
        for path in places.jobs.glob("*/reservation.json"):
            self._of[path.parent.name] = Reservation(**json.loads(path.read_bytes()))

    def reserve(self, job_id: str, output: str, overwrite: bool, file_name: str) -> None:
        """Makes the folder and holds it for the job; `file_name` is empty for summary_only.

        Raises OutputNotEmpty, OutputReserved, OutputUnwritable or SpecRefused. Idempotent for the same job.
        """
        self._places.job(job_id)
        _check_file_name(file_name)
        if not os.path.isabs(output):
            raise OutputUnwritable(f"The output folder '{output}' is no absolute path; write the whole path.")
        with self._lock, said_clearly(output):
            folder = os.path.realpath(output)
            self._check_holder(job_id, folder)
            if self._holds(job_id, folder):
                return
            created = _take(Path(folder), overwrite, file_name, job_id)
            status = os.stat(folder)
            taken = Reservation(job_id, folder, status.st_dev, status.st_ino, created, overwrite, file_name)
            make_folder(self._places.job(job_id))
            write_durably(self._places.reservation(job_id), json.dumps(asdict(taken)).encode())
            self._of[job_id] = taken

    def _check_holder(self, job_id: str, folder: str) -> None:
        for other in self._of.values():
            if other.folder == folder and other.job_id != job_id:
                raise OutputReserved(
                    f"{folder} is the output folder of job {other.job_id}; choose another one, or wait for that job."
                )

    def _holds(self, job_id: str, folder: str) -> bool:
        held = self._of.get(job_id)
        return held is not None and held.folder == folder and _is_same(held)

    def held(self, job_id: str, output: str) -> Reservation:
        """What the job has reserved; raises OutputChanged when that is not (any longer) `output`."""
        held = self._of.get(job_id)
        if held is None or held.folder != os.path.realpath(output):
            raise OutputChanged(f"{output} is not reserved for job {job_id}; resume the job.")
        if not _is_same(held):
            raise OutputChanged(
                f"{output} is not the folder that job {job_id} reserved; put it back, and resume the job."
            )
        return held

    def release(self, job_id: str) -> None:
        """Gives the folder back: what of ours is hidden in it goes, and so does an empty folder made for this job."""
        path = self._places.reservation(job_id)
        with self._lock:
            held = self._of.get(job_id)
            if held is None:
                return
            if _is_same(held):
                clear_hidden(Path(held.folder), job_id)
                if held.created and not os.listdir(held.folder):
                    os.rmdir(held.folder)
            remove_durably(path)
            del self._of[job_id]


def clear_hidden(folder: Path, job_id: str) -> None:
    """Removes what an interrupted commit of the job left in the folder."""
    for path in folder.glob(f".batchmesh-{job_id}-*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_same(held: Reservation) -> bool:
    try:
        status = os.stat(held.folder)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (held.device, held.inode)


def _check_file_name(name: str) -> None:
    if name and (name in (".", "..", REPORT) or "/" in name or "\0" in name):
        sentence = f"'{name}' is no name of a file in the output folder; write a plain name such as result.csv."
        raise SpecRefused(sentence, {"append_row_file_name": sentence})


def _take(folder: Path, overwrite: bool, file_name: str, job_id: str) -> bool:
    """Makes the folder fit to be written; returns whether it was made."""
    created = not folder.exists()
    if not created and not folder.is_dir():
        raise OutputUnwritable(f"The output {folder} is a file; give a folder.")
    make_folder(folder)
    if not overwrite:
        _check_empty(folder)
    if file_name and (folder / file_name).is_dir():
        raise OutputUnwritable(f"{folder / file_name} is a folder; choose another append_row_file_name.")
    # Permissions, read-only mounts and quotas say the truth only when asked to write.
    probe = folder / hidden_name(job_id, "probe")
    probe.write_bytes(b"probe")
    probe.unlink()
    return created


def _check_empty(folder: Path) -> None:
    names = [name for name in sorted(os.listdir(folder)) if not name.startswith(".batchmesh-")]
    if names == [REPORT]:
        state = _reported_state(folder / REPORT / "summary.json")
        if state is not None and state != "SUCCEEDED":
            return
    if names:
        raise OutputNotEmpty(
            f"The output folder {folder} is not empty (it holds {names[0]}); choose another one, or give --overwrite."
        )


def _reported_state(summary: Path) -> str | None:
    """The state in a report of ours; None when it is none."""
    try:
        report = json.loads(summary.read_bytes())
    except (OSError, ValueError):
        return None
    state = report.get("state") if isinstance(report, dict) else None
    return state if isinstance(state, str) else None
