"""The outputs of jobs: what is prepared hidden becomes visible, first the report, the output last.

    frames ──Assembly──┐                                  renamed ──▶ DIR/job_report/, DIR/<file>     (a folder)
    a job's ──Copying──┴▶ .batchmesh-<job>-… ──manifest──▶
    output                in DIR, or in a staging folder  renamed, uploaded ──▶ datastore://…         (remote)
                                                                        └──▶ manifest "published", release

A crash anywhere before the manifest says "published" is healed by the same commit again, which redoes all of it; once
all of a remote output is in its staging folder, only the upload. A job that goes on after its end commits again, with
another digest: its earlier output stays where it is until the new one takes its place. A round that failed or was
cancelled writes a report alone: the earlier output stays for good, beside that report.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from batchmesh.data.job_report import REPORT
from batchmesh.datastores.reference import parse
from batchmesh.errors import InputRefused, NoOutput, OutputChanged, SpecRefused
from batchmesh.v1 import job_pb2

from .assembly import Assembly, Order
from .copying import copied
from .disk import give_name, said_clearly, sync_folder
from .frames import FrameReader
from .manifest import FileIdentity, Manifest, Manifests
from .published import PublishedHere, PublishedRemotely
from .remote import RemoteFolder
from .report import publish_report
from .reservation import Reservation, Reservations, clear_hidden
from .tree import copy_tree, files_below, fingerprint_of, is_of_script, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchmesh.v1 import storage_pb2

    from .assembly import Prepared
    from .places import Places
    from .published import Published
    from .reservation import OpenDatastore
    from .spool import Spool


class Outputs:
    """The outputs of all jobs. All of it blocks; one commit of a job at a time."""

    def __init__(
        self, places: Places, reservations: Reservations, manifests: Manifests, open_datastore: OpenDatastore
    ) -> None:
        self._places = places
        self._reservations = reservations
        self._manifests = manifests
        self._open_datastore = open_datastore
        #: By job, the digest of an upload that was interrupted, and the name up to which it has come.
        self._uploaded: dict[str, tuple[str, str]] = {}

    def published(self, job_id: str, digest: str) -> Manifest | None:
        """The manifest of a commit with this digest that was published; completes its release."""
        manifest = self._manifests.of(job_id)
        if manifest is None or not manifest.published or manifest.digest != digest:
            return None
        self._finish(manifest)
        return manifest

    def open(self, job_id: str) -> BinaryIO:
        """The published append_row file; raises NoOutput, DatastoreFailed."""
        manifest = self._manifests.of(job_id)
        missing = NoOutput(f"Job {job_id} has no output file; it has not succeeded, or its file has been moved.")
        if manifest is None or not manifest.published or not manifest.file_name:
            raise missing
        try:
            if remote := self._remote_of(manifest):
                return remote.open(manifest.file_name)
            return Path(manifest.output_path).open("rb")
        except (InputRefused, OSError):
            raise missing from None

    def commit(self, header: storage_pb2.CommitHeader, spool: Spool) -> Manifest:
        """Publishes; raises FramesDamagedError, OutputChanged, OutputUnwritable, DiskFull, DiskFailing, and for a
        remote output DatastoreFailed or BadEntry."""

        def assembled(order: Order) -> Prepared:
            reader = FrameReader(self._places, header.job_id, spool.segments())
            try:
                return Assembly(order, header.append_row_file_name, spool, reader).prepare()
            finally:
                reader.close()

        return self._made(header, assembled)

    def copy(self, header: storage_pb2.CommitHeader, from_job_id: str) -> Manifest:
        """Publishes what another job has published; raises NoOutput, and what commit() raises."""
        return self._made(header, lambda order: copied(order, self._taken(header, from_job_id)))

    def _taken(self, header: storage_pb2.CommitHeader, from_job_id: str) -> Published:
        """What is there to be copied; raises NoOutput."""
        self._places.job(from_job_id)
        manifest = self._manifests.of(from_job_id)
        if manifest is None or not manifest.published or not manifest.output_path:
            raise NoOutput(f"Job {from_job_id} has published no output.")
        if manifest.file_name != _file_name(header):
            raise NoOutput(f"The output of job {from_job_id} is of another kind or name than that of {header.job_id}.")
        remote = self._remote_of(manifest)
        return PublishedRemotely(manifest, remote) if remote else PublishedHere(manifest)

    def _made(self, header: storage_pb2.CommitHeader, prepare: Callable[[Order], Prepared]) -> Manifest:
        done = self.published(header.job_id, header.digest)  # by a caller that went away while this one spoke
        if done:
            return done
        held = self._reservations.held(header.job_id, header.output)
        order = _order(header, held)
        remote = self._remote(held)
        with said_clearly(held.folder):
            manifest = self._staged(header, held) or self._renamed(header, held, order, remote, prepare)
            if remote:
                manifest = self._upload(manifest, held, remote)
            elif _is_summary_only(header):
                manifest = replace(manifest, fingerprint=fingerprint_of(order.folder))
        published = replace(manifest, published=True)
        self._manifests.write(published)
        self._finish(published)
        return published

    def _finish(self, manifest: Manifest) -> None:
        """What is left to do for a manifest that says "published"."""
        if manifest.output_path:
            with said_clearly(self._places.jobs):
                shutil.rmtree(self._places.files(manifest.job_id), ignore_errors=True)
        self._uploaded.pop(manifest.job_id, None)
        self._reservations.release(manifest.job_id)

    def _renamed(
        self,
        header: storage_pb2.CommitHeader,
        held: Reservation,
        order: Order,
        remote: RemoteFolder | None,
        prepare: Callable[[Order], Prepared],
    ) -> Manifest:
        """Prepares and gives all of it its name in the folder."""
        _clear(held)
        try:
            prepared = prepare(order)
            if not remote and _is_summary_only(header):
                sent = self._places.files(header.job_id)
                copy_tree(sent, order.hidden("files"), files_below(sent))
            manifest = self._manifest(header, held, prepared, remote)
            self._manifests.write(manifest)
            publish_report(order.folder / REPORT, order.hidden("report"), order.hidden("displaced"))
            settle(order.hidden("files"), order.folder)
            if manifest.inode:
                give_name(order.hidden("output"), order.folder / order.file_name)
            sync_folder(order.folder)
        except BaseException:
            clear_hidden(order.folder, header.job_id)
            raise
        return manifest

    def _manifest(
        self, header: storage_pb2.CommitHeader, held: Reservation, prepared: Prepared, remote: RemoteFolder | None
    ) -> Manifest:
        """What is about to be published. Raises OutputChanged when something else has appeared at its path."""
        name, own = _file_name(header), self._manifests.own(header.job_id)
        standing, stamp = FileIdentity(0, 0), ""
        if remote:
            stamp = remote.stamp(header.append_row_file_name)
            is_own = own.has_stamp(stamp)
            stands = bool(stamp) and not is_own
            stamp = stamp if is_own else ""
        else:
            target = Path(held.folder) / header.append_row_file_name
            found = own.has_file(target)
            stands, standing = found is None and os.path.lexists(target), found or standing
        shown = held.remote or (held.folder if parse(header.output) else str(Path(header.output)))
        if stands and name and not held.overwrite:
            raise OutputChanged(f"{_below(shown, name)} was not there when the job began; move it away, and resume it.")
        return Manifest(
            job_id=header.job_id,
            digest=header.digest,
            output_path="" if header.report_only else _below(shown, name) if name else shown,
            report_path=_below(shown, REPORT),
            rows=prepared.rows,
            bytes=prepared.bytes,
            published=False,
            inode=prepared.output.inode,
            modified=prepared.output.modified,
            earlier_inode=standing.inode,
            earlier_modified=standing.modified,
            workspace=held.workspace if held.remote else "",
            earlier_stamp=stamp,
        )

    # What is remote.

    def _remote(self, held: Reservation) -> RemoteFolder | None:
        reference = parse(held.remote) if held.remote else None
        if reference is None:
            return None
        return RemoteFolder(self._open_datastore(held.workspace, reference.datastore), reference)

    def _remote_of(self, manifest: Manifest) -> RemoteFolder | None:
        """Where a job has published, if that is in a remote datastore."""
        reference = parse(manifest.output_path)
        if reference is None:
            return None
        if manifest.file_name:
            reference = reference._replace(path=reference.path.rpartition("/")[0])
        return RemoteFolder(self._open_datastore(manifest.workspace, reference.datastore), reference)

    def _staged(self, header: storage_pb2.CommitHeader, held: Reservation) -> Manifest | None:
        """That of a commit with this digest whose upload was cut off, if all of it is still in the staging folder."""
        manifest = self._manifests.of(header.job_id)
        if manifest is None or manifest.published or not manifest.staged or manifest.digest != header.digest:
            return None
        name = _file_name(header)
        is_whole = not name or FileIdentity(manifest.inode, manifest.modified).is_that_of(Path(held.folder) / name)
        return manifest if is_whole else None

    def _upload(self, manifest: Manifest, held: Reservation, remote: RemoteFolder) -> Manifest:
        """Brings what is staged to the datastore, the append_row file last, then deletes what has been replaced."""
        if not manifest.staged:
            manifest = replace(manifest, staged=True)
            self._manifests.write(manifest)
        staging, sent = Path(held.folder), self._places.files(manifest.job_id)
        name, succeeded = manifest.file_name, bool(manifest.output_path)
        if succeeded and not name:
            self._upload_sent(manifest, sent, remote)
        remote.upload(staging, (each for each in files_below(staging) if each != name))
        remote.upload(staging, [name] if name else [])
        remote.delete_others(lambda found: _stays(found, (staging, sent), succeeded and held.overwrite))
        if not succeeded:
            return manifest
        return (
            replace(manifest, stamp=remote.stamp(name)) if name else replace(manifest, fingerprint=remote.fingerprint())
        )

    def _upload_sent(self, manifest: Manifest, sent: Path, remote: RemoteFolder) -> None:
        """What agents have sent, which may be a great many files; goes on where it was interrupted."""
        digest, after = self._uploaded.get(manifest.job_id, ("", ""))
        after = after if digest == manifest.digest else ""
        for name in remote.uploaded(sent, (each for each in files_below(sent) if each > after)):
            self._uploaded[manifest.job_id] = (manifest.digest, name)


def _stays(name: str, made: tuple[Path, ...], replaces_all: bool) -> bool:
    """Whether a file in a remote folder is one that has just been made, or nobody's to delete."""
    if any((folder / name).is_file() for folder in made):
        return True
    return not replaces_all and is_of_script(name)


def _order(header: storage_pb2.CommitHeader, held: Reservation) -> Order:
    return Order(
        Path(held.folder), header.job_id, _file_name(header), header.report_only, _summary(header.summary_json)
    )


def _summary(text: str) -> dict[str, Any]:
    try:
        summary = json.loads(text) if text else {}
    except ValueError:
        summary = None
    if not isinstance(summary, dict):
        raise SpecRefused("The summary of the commit is no JSON object.", {"summary_json": "It is no JSON object."})
    return summary


def _is_summary_only(header: storage_pb2.CommitHeader) -> bool:
    """Whether what is published is the script's own files."""
    return not header.report_only and header.output_action == job_pb2.OutputAction.OUTPUT_ACTION_SUMMARY_ONLY


def _file_name(header: storage_pb2.CommitHeader) -> str:
    """That of the file to be published; empty when there is none."""
    return "" if header.report_only or _is_summary_only(header) else header.append_row_file_name


def _below(folder: str, name: str) -> str:
    return f"{folder.removesuffix('/')}/{name}"


def _clear(held: Reservation) -> None:
    """Removes what an interrupted commit of the job left."""
    clear_hidden(Path(held.folder), held.job_id)
    if held.remote:
        for left in Path(held.folder).iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
