"""Reservations: which output folder belongs to which job until it is committed or released. Durable."""

from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from batchmesh.errors import OutputChanged, OutputNotEmpty, OutputReserved, OutputUnwritable, SpecRefused

from .disk import make_folder, read_record, remove_durably, said_clearly, write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .manifest import FileIdentity
    from .places import Places

#: The folder of the report in the output folder.
REPORT = "job_report"
#: What of ours is hidden in an output folder while it is made.
_HIDDEN = ("output", "report", "displaced", "probe")


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
            found = read_record(path)
            if found:
                self._of[path.parent.name] = Reservation(**found)

    def reserve(
        self, job_id: str, output: str, overwrite: bool, file_name: str, own: Sequence[FileIdentity] | None = None
    ) -> None:
        """Makes the folder and holds it for the job; `file_name` is empty for summary_only.

        `own` is None for a job that begins. For one that goes on, its report may stand in the folder, and its output
        file if it is one of `own`; with summary_only anything may, as only the script knows what it has put there.
        Raises OutputNotEmpty, OutputReserved, OutputUnwritable, SpecRefused or DiskFull. Idempotent for the same job.
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
            if not overwrite:
                remedy = (
                    "choose another one, or give --overwrite" if own is None else "move it away, and resume the job"
                )
                _check_empty(Path(folder), _may_stand(Path(folder), job_id, file_name, own), remedy)
            created = _take(Path(folder), file_name, job_id)
            try:
                self._write(job_id, folder, created, overwrite, file_name)
            except BaseException:
                self._undo(job_id, Path(folder), created)
                raise

    def _write(self, job_id: str, folder: str, created: bool, overwrite: bool, file_name: str) -> None:
        status = os.stat(folder)
        taken = Reservation(job_id, folder, status.st_dev, status.st_ino, created, overwrite, file_name)
        path = self._places.reservation(job_id)
        with said_clearly(path):
            make_folder(path.parent)
            write_durably(path, json.dumps(asdict(taken)).encode())
        self._of[job_id] = taken

    def _undo(self, job_id: str, folder: Path, created: bool) -> None:
        """What nobody was told must not hold the folder after a restart."""
        with suppress(OSError):
            self._places.reservation(job_id).unlink(missing_ok=True)
        with suppress(OSError):
            if created:
                folder.rmdir()

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
        with self._lock, said_clearly(path):
            held = self._of.get(job_id)
            if held is None:
                return
            if _is_same(held):
                _leave(held)
            remove_durably(path)
            del self._of[job_id]


def _leave(held: Reservation) -> None:
    try:
        clear_hidden(Path(held.folder), held.job_id)
        if held.created and not os.listdir(held.folder):
            os.rmdir(held.folder)
    except OSError as error:  # an output that is published is not held back for what cannot be tidied up
        structlog.get_logger().warning("folder_not_tidied", job=held.job_id, folder=held.folder, error=str(error))


def clear_hidden(folder: Path, job_id: str) -> None:
    """Removes what an interrupted commit of the job left in the folder."""
    for what in _HIDDEN:
        path = folder / hidden_name(job_id, what)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


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


def _take(folder: Path, file_name: str, job_id: str) -> bool:
    """Makes the folder fit to be written; returns whether it was made."""
    created = not folder.exists()
    if not created and not folder.is_dir():
        raise OutputUnwritable(f"The output {folder} is a file; give a folder.")
    if file_name and (folder / file_name).is_dir():
        raise OutputUnwritable(f"{folder / file_name} is a folder; choose another append_row_file_name.")
    make_folder(folder)
    # Permissions, read-only mounts and quotas say the truth only when asked to write.
    probe = folder / hidden_name(job_id, "probe")
    try:
        probe.write_bytes(b"probe")
    except OSError:
        with suppress(OSError):  # the first error is the one to tell
            probe.unlink(missing_ok=True)
            if created:
                folder.rmdir()
        raise
    probe.unlink()
    return created


def _may_stand(folder: Path, job_id: str, file_name: str, own: Sequence[FileIdentity] | None) -> set[str] | None:
    """Names that do not matter in the folder; None when nothing matters."""
    report = _report(folder / REPORT / "summary.json")
    state = report.get("state")
    if own is None:
        return {REPORT} if isinstance(state, str) and state != "SUCCEEDED" else set()
    if not file_name:
        return None
    names = {REPORT} if report.get("job_id") == job_id or (isinstance(state, str) and state != "SUCCEEDED") else set()
    return names | ({file_name} if any(each.is_that_of(folder / file_name) for each in own) else set())


def _check_empty(folder: Path, may_stand: set[str] | None, remedy: str) -> None:
    if may_stand is None or not folder.is_dir():
        return
    names = [name for name in sorted(os.listdir(folder)) if not name.startswith(".batchmesh-")]
    odd = [name for name in names if name not in may_stand]
    if odd:
        raise OutputNotEmpty(f"The output folder {folder} is not empty (it holds {odd[0]}); {remedy}.")


def _report(summary: Path) -> dict[str, Any]:
    """The summary of a report of ours; empty when it is none."""
    try:
        report = json.loads(summary.read_bytes())
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}
