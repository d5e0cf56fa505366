"""Looks for an earlier job like this one, and has storage give this one its output.

inputs ──list, on a thread──▶ parts ──▶ database: the same key? ──yes──▶ CopyOutput ──▶ SUCCEEDED
                                               └─no──▶ what differs, in words; it runs
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import BatchmeshError, MeshUnreachable, NoOutput
from batchmesh.requirements import paths_in
from batchmesh.v1 import job_pb2

from . import report, reuse
from .inputs import Inputs, stamp_of
from .jobs import JobRecord
from .model import Counts, JobState, State
from .spec import ENVIRONMENT, limits_of, reuse_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchmesh.v1 import storage_pb2

    from .datastores import Datastores
    from .inputs import Remote
    from .publisher import Publisher
    from .store import Database, Statement, Store
    from .tables import JobRow

#: Inputs that are listed at once; each may have millions of files.
_LISTINGS = 2
#: Seconds for which a storage that does not answer is asked for an output, as for a commit; and between two tries.
_PATIENCE, _AGAIN = 600.0, 0.5


@dataclass(frozen=True)
class Look:
    """What was found: the earlier job to take the output of, or `why` there is none in one line. `statements` keep what
    the job depends on, if it runs."""

    earlier: reuse.Earlier | None = None
    why: str = ""
    statements: list[Statement] = field(default_factory=list)


class Reusing:
    """Without `datastores` jobs have their inputs on this host. `patience`: seconds for which a storage that does not
    answer is asked for an output."""

    def __init__(
        self, store: Store, publisher: Publisher, datastores: Datastores | None, patience: float = _PATIENCE
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._datastores = datastores
        self._patience = patience
        self._threads = ThreadPoolExecutor(_LISTINGS, thread_name_prefix="reuse")

    async def look(self, record: JobRecord, cancelled: Callable[[], bool]) -> Look:
        """Lists the inputs, for as long as the job is not cancelled, and asks for a job like this one."""
        row, spec = record.row, record.spec
        before = await asyncio.wrap_future(self._store.read(partial(reuse.written_before, number=row.number)))
        left = False
        remote = self._datastores.planned(spec.workspace) if self._datastores else None
        looked_up = partial(_parts, spec, row.input_kind, before, remote, lambda: left or cancelled())
        try:
            parts = await asyncio.get_running_loop().run_in_executor(self._threads, looked_up)
        except (OSError, ValueError, BatchmeshError) as error:
            return Look(why=f"the input cannot be listed: {error}")
        except Exception as error:  # noqa: BLE001 a datastore's library may raise anything; planning says it again
            structlog.get_logger().exception("input_not_listed", job=row.job_id)
            return Look(why=f"listing the input failed with {error!r}")
        finally:
            left = True
        kin = reuse.Kin(row.workspace, spec.entry_script, spec.step_name)
        found, why = await asyncio.wrap_future(self._store.read(partial(_find, kin=kin, parts=parts)))
        return Look(found, why, list(reuse.keep(row.number, kin, parts)))

    async def take(self, record: JobRecord, earlier: str, progress: bytes) -> JobRow | str:
        """The job's row as one that has SUCCEEDED with that job's output and counts, or in one line why it has to run.

        Errors: MeshUnreachable when storage is away for so long that nobody knows which of the two it is.
        """
        try:
            counts = job_pb2.Progress.FromString(progress)
            manifest = await self._copied(record, _summary(record, counts), earlier)
        except NoOutput:
            return f"the output of {earlier} is gone, or has changed"
        except MeshUnreachable:
            raise
        except BatchmeshError as error:  # running meets the same, with all its patience
            structlog.get_logger().warning("output_not_copied", job=record.row.job_id, why=str(error))
            return f"the output of {earlier} could not be taken: {error}"
        return replace(
            record.row,
            state=int(State.SUCCEEDED),
            progress=progress,
            output_path=manifest.output_path,
            report_path=manifest.report_path,
            reused_from=earlier,
            not_reused="",
        )

    async def _copied(self, record: JobRecord, summary: str, job_id: str) -> storage_pb2.Manifest:
        """A storage that goes away meanwhile is asked again for a while."""
        until = time.monotonic() + self._patience
        while True:
            try:
                return await self._publisher.copy(record, summary, job_id)
            except MeshUnreachable as error:
                if time.monotonic() > until:
                    raise
                record.hold(f"the output of {job_id} cannot be taken yet: {error}")
            await asyncio.sleep(_AGAIN)


def _parts(
    spec: job_pb2.JobSpec,
    input_kind: int,
    before: Sequence[tuple[str, bytes]],
    remote: Remote | None,
    stopped: Callable[[], bool],
) -> reuse.Parts:
    """All that the job's output depends on. Blocks."""
    listing = _listing(spec, before, remote, stopped)
    settings = reuse_settings(_by_origin(spec, before), input_kind)
    files = sorted({path for line in spec.environment.requirements for path in paths_in(line)})
    stamps = [stamp_of(path) for path in files]  # of those that this host sees
    return reuse.parts_of({**settings, ENVIRONMENT: [settings[ENVIRONMENT], stamps]}, listing)


def _listing(
    spec: job_pb2.JobSpec, before: Sequence[tuple[str, bytes]], remote: Remote | None, stopped: Callable[[], bool]
) -> reuse.Listing:
    """Of the inputs, and of the side inputs that lie in datastores. Blocks."""
    references = [each.reference for each in spec.side_inputs if each.reference]
    outputs = [job_pb2.JobSpec.FromString(blob).output for _, blob in before]
    folders = [f"{text.rstrip('/')}/" for text in Inputs(outputs, remote).texts]
    origins = list(zip(folders, (origin for origin, _ in before), strict=True))
    listing = reuse.Listing()
    inputs = Inputs([*spec.inputs, *references], remote)
    for number in range(len(inputs.texts)):
        listing.begin_input()
        for path, size, stamp in inputs.stamped(number):
            if stopped():
                return listing
            folder, origin = next((each for each in origins if path.startswith(each[0])), ("", ""))
            if origin:  # written anew or taken from before, it is the same
                listing.add(f"{origin}: {path.removeprefix(folder)}", size, "")
            else:
                listing.add(path, size, stamp)
    return listing


def _by_origin(spec: job_pb2.JobSpec, before: Sequence[tuple[str, bytes]]) -> job_pb2.JobSpec:
    """The spec with side inputs that jobs before it have written named by whose output they are: each run has its own
    folder, and yet they are the same."""
    named = job_pb2.JobSpec()
    named.CopyFrom(spec)
    for origin, blob in before:
        folder = f"{job_pb2.JobSpec.FromString(blob).output.rstrip('/')}/"
        for each in named.side_inputs:
            if f"{each.reference}/".startswith(folder):
                each.reference = f"{origin}: {each.reference[len(folder) :]}"
    return named


def _find(db: Database, kin: reuse.Kin, parts: reuse.Parts) -> tuple[reuse.Earlier | None, str]:
    """The newest job with the same key, or what differs from the newest one."""
    same = next(filter(_is_clean, reuse.same(db, kin, parts.key)), None)
    if same is not None:
        return same, ""
    last = next(filter(_is_clean, reuse.latest(db, kin)), None)
    if last is None:
        return None, "no job like it has succeeded"
    return None, f"changed since {last.job_id}: {reuse.changes(parts, last.parts)}"


def _is_clean(earlier: reuse.Earlier) -> bool:
    return not job_pb2.Progress.FromString(earlier.progress).failed_items


def _summary(record: JobRecord, progress: job_pb2.Progress) -> str:
    counts = Counts(**{name: getattr(progress, name) for name in Counts.__dataclass_fields__})
    state = JobState(record.row.job_id, limits_of(record.spec), since=0.0, counts=counts)
    return report.summary(JobRecord(record.row, state), State.SUCCEEDED, counts, None)
