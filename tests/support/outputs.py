"""Storage's publishing without its process: outputs of jobs over a root, and a datastore in memory that can break."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from batchmesh.data.job_report import REPORT, SUMMARY, is_summary
from batchmesh.datastores.local import LocalDatastore
from batchmesh.entries import LocalFolder
from batchmesh.errors import InputRefused, NoEntry
from batchmesh.storage.manifest import Manifests
from batchmesh.storage.output import Outputs
from batchmesh.storage.places import Places
from batchmesh.storage.reservation import Reservations
from batchmesh.storage.spool import Spool
from tests.support.memory_datastore import MemoryDatastore
from tests.support.storage import APPEND_ROW, SUMMARY_ONLY, Frames, pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batchmesh.datastores.store import Datastore, Found
    from batchmesh.storage.manifest import Manifest


class Killed(BaseException):
    """The process ends here."""


class Blobs(MemoryDatastore):
    """As a blob container behaves: hidden names, and a report of ours, are left out of a listing.

    `before` is called with each change before it is made, and may raise.
    """

    def __init__(self, before: Callable[[str, str], None] = lambda what, path: None) -> None:
        super().__init__()
        self.before = before

    def find(self, path: str, after: str | None = None) -> Iterator[Found]:
        folder = f"{path}/" if path else ""
        try:
            has_report = is_summary(self._content(f"{folder}{REPORT}/{SUMMARY}"))
        except InputRefused:
            has_report = False
        for found in super().find(path, after):
            inside = found.path.removeprefix(folder)
            is_hidden = inside.startswith(".") or "/." in inside
            if not is_hidden and not (has_report and inside.startswith(f"{REPORT}/")):
                yield found

    def upload(self, from_: Path, path: str, *, overwrite: bool) -> None:
        self.before("upload", path)
        super().upload(from_, path, overwrite=overwrite)

    def delete(self, path: str) -> None:
        self.before("delete", path)
        super().delete(path)

    def all(self) -> dict[str, bytes]:
        """Every blob there is."""
        return {path: content for path, (content, _) in self._blobs.items()}


class OutputRig:
    """What a storage process has over `root`; another one over the same root is that process started again.

    Its datastores are "blobs", and "here", a folder beside the root.
    """

    def __init__(self, root: Path, blobs: Blobs | None = None) -> None:
        self.blobs = blobs or Blobs()
        self.here = root.parent / "here"
        self.places = Places(root)
        for folder in (self.places.jobs, self.places.trash):
            folder.mkdir(parents=True, exist_ok=True)
        self.manifests = Manifests(self.places)
        self.reservations = Reservations(self.places, self._open)
        self.outputs = Outputs(self.places, self.reservations, self.manifests, self._open)

    def _open(self, workspace: str, name: str) -> Datastore:
        stores: dict[str, Datastore] = {
            "blobs": self.blobs,
            "here": LocalDatastore("here", LocalFolder(str(self.here))),
        }
        if name not in stores:
            raise NoEntry(f"There is no datastore {name} in {workspace}.")
        return stores[name]

    def again(self) -> OutputRig:
        return OutputRig(self.places.root, self.blobs)

    def reserve(self, output: object, job: str = "j", file_name: str = "out.txt", **more: Any) -> None:
        resumed = more.pop("resumed", False)
        own = self.manifests.own(job) if resumed else None
        self.reservations.reserve(job, str(output), more.pop("overwrite", False), file_name, own, **more)

    def commit(self, output: object, *results: str, job: str = "j", digest: str = "1", **fields: Any) -> Manifest:
        """Publishes these rows; or for summary_only what was sent."""
        frames = Frames(*[[each] for each in results])
        segment = self.places.segment(job, "s")
        segment.parent.mkdir(parents=True, exist_ok=True)
        segment.write_bytes(frames.blocks)
        spool = Spool(self.places.spool(job) / uuid.uuid4().hex)
        try:
            spool.add(pb.CommitOutputRequest(places=frames.places))
            spool.add(pb.CommitOutputRequest(complete=True))
            spool.complete()
            return self.outputs.commit(header(output, job, digest, **fields), spool)
        finally:
            spool.discard()

    def copy(self, output: object, from_job: str, job: str = "k", digest: str = "1", **fields: Any) -> Manifest:
        return self.outputs.copy(header(output, job, digest, **fields), from_job)

    def send(self, name: str, text: str, job: str = "j") -> None:
        """As if an agent had sent it."""
        path = self.places.file(job, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def content(self, job: str = "j") -> str:
        with self.outputs.open(job) as file:
            return file.read().decode()


def header(output: object, job: str, digest: str, **fields: Any) -> Any:
    """A CommitHeader; its summary is such as the scheduler's."""
    state = "FAILED" if fields.get("report_only") else "SUCCEEDED"
    about = {"job_id": job, "state": state, "batchmesh_version": "1"}
    summary_only = fields.pop("summary_only", False)
    return pb.CommitHeader(
        job_id=job,
        output=str(output),
        digest=digest,
        output_action=SUMMARY_ONLY if summary_only else APPEND_ROW,
        append_row_file_name="out.txt",
        summary_json=json.dumps(about),
        **fields,
    )
