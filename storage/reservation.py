"""Reservations: which output folder belongs to which job until it is committed or released. Durable.

A folder of a remote datastore is held by its reference; what is to be published there is made in a staging folder.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from batchmesh.data.job_report import LARGEST_SUMMARY, REPORT, SUMMARY
from batchmesh.datastores.reference import Reference, parse
from batchmesh.entries import DEFAULT_WORKSPACE
from batchmesh.errors import (
    BadEntry,
    DatastoreFailed,
    OutputChanged,
    OutputNotEmpty,
    OutputReserved,
    OutputUnwritable,
    SpecRefused,
)

from .disk import make_folder, read_record, remove_durably, said_clearly, write_durably
from .places import HIDDEN
from .remote import RemoteFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchmesh.datastores.store import Datastore

    from .manifest import Own
    from .places import Places

    #: Opens the datastore of a workspace by its name. Raises NoEntry, BadEntry.
    OpenDatastore = Callable[[str, str], Datastore]

#: What of ours is hidden in an output folder while it is made.
_HIDDEN = ("output", "report", "files", "displaced", "probe")
#: What is hidden there for as long as a summary_only job may write to it: agents know the folder by it.
MARKER = "marker"


@dataclass(frozen=True)
class Reservation:
    """What one job holds."""

    job_id: str
    #: The folder by its real path: two spellings of one folder are one folder. Of a remote output, its staging folder.
    folder: str
    #: Identity of the folder; a mount that has gone, or a folder made anew, is not what was reserved.
    device: int
    inode: int
    #: The folder was made for this job, and goes again if the job is refused.
    created: bool
    overwrite: bool
    #: Empty when the job writes no append_row file.
    file_name: str
    #: As it was asked for, path or reference; empty in a record of an earlier version.
    output: str = ""
    workspace: str = ""
    #: datastore://NAME/PATH, when that is on no host; else empty.
    remote: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """The same for two outputs that are in the same place."""
        return (self.workspace, self.remote) if self.remote else ("", self.folder)


def hidden_name(job_id: str, what: str) -> str:
    """Name of something of ours in an output folder that is not published yet."""
    return f"{HIDDEN}{job_id}-{what}"


class _Wish(NamedTuple):
    """What a job asks for."""

    job_id: str
    output: str
    workspace: str
    overwrite: bool
    file_name: str
    own: Own | None

    @property
    def remedy(self) -> str:
        return "choose another one, or give --overwrite" if self.own is None else "move it away, and resume the job"


class Reservations:
    """All reservations of this storage. All of it blocks."""

    def __init__(self, places: Places, open_datastore: OpenDatastore) -> None:
        self._places = places
        self._open_datastore = open_datastore
        self._lock = threading.Lock()
        self._of: dict[str, Reservation] = {}
        for path in places.jobs.glob("*/reservation.json"):
            found = read_record(path)
            if found:
                self._of[path.parent.name] = Reservation(**found)

    def reserve(
        self, job_id: str, output: str, overwrite: bool, file_name: str, own: Own | None = None, workspace: str = ""
    ) -> None:
        """Makes the folder and holds it for the job; `file_name` is empty for summary_only.

        `own` is None for a job that begins. For one that goes on, its report may stand in the folder, and its output
        file if it is among `own`; with summary_only anything may, as only the script knows what it has put there.
        Raises OutputNotEmpty, OutputReserved, OutputUnwritable, SpecRefused, DiskFull, and NoEntry or BadEntry for a
        reference. Idempotent for the same job.
        """
        self._places.job(job_id)
        _check_file_name(file_name)
        wish = _Wish(job_id, output, workspace or DEFAULT_WORKSPACE, overwrite, file_name, own)
        reference = parse(output)
        with said_clearly(output):
            if reference is None:
                if not os.path.isabs(output):
                    raise OutputUnwritable(f"The output folder '{output}' is no absolute path; write the whole path.")
                self._reserve_folder(wish, os.path.realpath(output))
                return
            datastore = self._open_datastore(wish.workspace, reference.datastore)
            folder = datastore.local(reference.path)
            if folder is not None:
                self._reserve_folder(wish, os.path.realpath(folder))
            else:
                self._reserve_remote(wish, datastore, _normal(reference))

    def _reserve_folder(self, wish: _Wish, folder: str) -> None:
        with self._lock:
            if not self._holds(wish, ("", folder)):
                if not wish.overwrite:
                    _check_empty(Path(folder), _may_stand_in(Path(folder), wish), wish.remedy)
                created = _take(Path(folder), wish.file_name, wish.job_id)
                self._write(wish, folder, created)
            if not wish.file_name:
                with suppress(OSError):  # then agents send what scripts write
                    (Path(folder) / hidden_name(wish.job_id, MARKER)).write_text(wish.job_id)

    def _reserve_remote(self, wish: _Wish, datastore: Datastore, reference: Reference) -> None:
        place = (wish.workspace, str(reference))
        with self._lock:
            if self._holds(wish, place):
                return
        # Without the lock, as it may take seconds.
        _check_remote(wish, RemoteFolder(datastore, reference), self._places.trash)
        with self._lock:
            if not self._holds(wish, place):
                staging = self._places.staging(wish.job_id)
                make_folder(staging)
                self._write(wish, str(staging), True, str(reference))

    def _write(self, wish: _Wish, folder: str, created: bool, remote: str = "") -> None:
        status = os.stat(folder)
        taken = Reservation(
            wish.job_id,
            folder,
            status.st_dev,
            status.st_ino,
            created,
            wish.overwrite,
            wish.file_name,
            wish.output,
            wish.workspace,
            remote,
        )
        path = self._places.reservation(wish.job_id)
        try:
            with said_clearly(path):
                make_folder(path.parent)
                write_durably(path, json.dumps(asdict(taken)).encode())
        except BaseException:
            self._undo(wish.job_id, Path(folder), created)
            raise
        self._of[wish.job_id] = taken

    def _undo(self, job_id: str, folder: Path, created: bool) -> None:
        """What nobody was told must not hold the folder after a restart."""
        with suppress(OSError):
            self._places.reservation(job_id).unlink(missing_ok=True)
        with suppress(OSError):
            if created:
                folder.rmdir()

    def _holds(self, wish: _Wish, place: tuple[str, str]) -> bool:
        """Whether the job holds it already; raises OutputReserved when another one does."""
        for other in self._of.values():
            if other.job_id != wish.job_id and _collide((place, wish.overwrite), (other.place, other.overwrite)):
                where = "is" if other.place == place else "lies in, or around,"
                raise OutputReserved(
                    f"{place[1]} {where} the output folder of job {other.job_id}; choose another one, or wait for that "
                    "job."
                )
        held = self._of.get(wish.job_id)
        return held is not None and held.place == place and _is_same(held)

    def has(self, job_id: str) -> bool:
        """Whether the job holds an output."""
        return job_id in self._of

    def held(self, job_id: str, output: str) -> Reservation:
        """What the job has reserved; raises OutputChanged when that is not (any longer) `output`."""
        held = self._of.get(job_id)
        if held is None or (held.output != output and held.folder != os.path.realpath(output)):
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


def _collide(*claims: tuple[tuple[str, str], bool]) -> bool:
    """Whether two jobs, each with its place and whether it overwrites, would write over one another.

    A job that overwrites deletes what else lies below a remote place.
    """
    (one, _), (other, _) = claims
    if one == other:
        return True
    return any(
        overwrites and inner[0] == outer[0] != "" and inner[1].startswith(f"{outer[1]}/")
        for (outer, overwrites), (inner, _) in (claims, claims[::-1])
    )


def _leave(held: Reservation) -> None:
    folder = Path(held.folder)
    try:
        if held.remote:
            shutil.rmtree(folder)
            return
        clear_hidden(folder, held.job_id)
        (folder / hidden_name(held.job_id, MARKER)).unlink(missing_ok=True)
        if held.created and not os.listdir(folder):
            folder.rmdir()
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


def _check_remote(wish: _Wish, remote: RemoteFolder, trash: Path) -> None:
    """`trash` is a folder for what is needed for a moment. Raises OutputNotEmpty and OutputUnwritable."""
    try:
        if not wish.overwrite:
            has_own = wish.own is not None and bool(wish.file_name) and wish.own.has_stamp(remote.stamp(wish.file_name))
            remote.check_empty(_may_stand(_report(remote.summary()), wish, has_own), wish.remedy)
        with tempfile.TemporaryDirectory(dir=trash) as folder:
            probe = Path(folder) / hidden_name(wish.job_id, "probe")
            probe.write_bytes(b"probe")
            remote.probe(probe)
    except (DatastoreFailed, BadEntry) as error:
        raise OutputUnwritable(f"The output {wish.output} cannot be written: {error}") from error


def _may_stand_in(folder: Path, wish: _Wish) -> set[str] | None:
    """As _may_stand, of a folder of this host."""
    has_own = wish.own is not None and wish.own.has_file(folder / wish.file_name) is not None
    try:
        with (folder / REPORT / SUMMARY).open("rb") as file:
            report = file.read(LARGEST_SUMMARY)
    except OSError:
        report = b""
    return _may_stand(_report(report), wish, has_own)


def _may_stand(report: dict[str, Any], wish: _Wish, has_own: bool) -> set[str] | None:
    """Names that do not matter in the folder; None when nothing matters. `has_own`: the job's own file is there."""
    state = report.get("state")
    of_failed = isinstance(state, str) and state != "SUCCEEDED"
    if wish.own is None:
        return {REPORT} if of_failed else set()
    if not wish.file_name:
        return None
    names = {REPORT} if report.get("job_id") == wish.job_id or of_failed else set()
    return names | ({wish.file_name} if has_own else set())


def _check_empty(folder: Path, may_stand: set[str] | None, remedy: str) -> None:
    if may_stand is None or not folder.is_dir():
        return
    names = [name for name in sorted(os.listdir(folder)) if not name.startswith(HIDDEN)]
    odd = [name for name in names if name not in may_stand]
    if odd:
        raise OutputNotEmpty(f"The output folder {folder} is not empty (it holds {odd[0]}); {remedy}.")


def _report(summary: bytes) -> dict[str, Any]:
    """What a report of ours says; empty when it is none."""
    try:
        report = json.loads(summary)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _normal(reference: Reference) -> Reference:
    """One spelling for one folder."""
    return reference._replace(path=reference.path.strip("/"))
