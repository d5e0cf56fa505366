"""Accepting jobs, several at once or none: checked, their outputs reserved, written down, then set in motion.

specs ──check──▶ inputs, sources ──▶ ReserveOutput, each ──▶ one transaction ──▶ anteroom, or dispatcher
                                           └─ when one is refused, what was reserved is given back
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import BatchmeshError, JobExists, MeshEmbedded, Refused, SpecRefused
from batchmesh.v1 import job_pb2, scheduler_pb2

from . import after, tables
from .checking import check_input, check_side_inputs
from .jobs import JobRecord
from .spec import KIND_NUMBERS, check_job_id, completed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from .anteroom import Anteroom
    from .compute import ComputeTargets
    from .config import Config
    from .dispatcher import Dispatcher
    from .publisher import Publisher
    from .store import Database, Statement, Store

    Specs = Mapping[str, job_pb2.JobSpec]


#: Jobs that are accepted at once at most.
_MOST = 100


def requested(request: scheduler_pb2.SubmitJobsRequest) -> dict[str, job_pb2.JobSpec]:
    """The specs of several jobs, by their ids. Errors: SpecRefused."""
    ids = [each.job_id for each in request.jobs]
    if not 1 <= len(ids) <= _MOST:
        _refuse("jobs", f"There are {len(ids)} jobs; submit from 1 to {_MOST} at once.")
    for job_id, times in Counter(ids).items():
        if not job_id:
            _refuse("job_id", "A job has no id; give each of several jobs one.")
        if times > 1:
            _refuse("job_id", f"Job {job_id} is there {times} times; give each job an id of its own.")
    return {each.job_id: each.spec for each in request.jobs}


class Admission:
    """The same ids with the same specs again are the same jobs, also while the first ones are being accepted."""

    def __init__(
        self,
        config: Config,
        store: Store,
        publisher: Publisher,
        dispatcher: Dispatcher,
        anteroom: Anteroom,
        targets: ComputeTargets,
    ) -> None:
        self._config = config
        self._store = store
        self._publisher = publisher
        self._dispatcher = dispatcher
        self._anteroom = anteroom
        self._targets = targets
        self._free = asyncio.Condition()
        self._taken: set[str] = set()

    async def admit(self, given: Specs, attended: bool) -> None:
        """Accepts all of these jobs, by their ids, or none.

        Errors: SpecRefused, InputRefused, JobExists, MeshEmbedded, NoArtifact, OutputRefused, MeshUnreachable; of
        several jobs they name the one.
        """
        several = len(given) > 1
        specs: dict[str, job_pb2.JobSpec] = {}
        for job_id, spec in given.items():
            check_job_id(job_id)
            with _naming(job_id, several):
                specs[job_id] = completed(spec)
        async with self._alone(set(specs)):
            new = await self._new_of(specs)
            if new:
                self.check_attended(attended)
                await self._accept(new, await self._checked(new, several), several)

    def check_attended(self, attended: bool) -> None:
        """Errors: MeshEmbedded."""
        if self._config.embedded and not attended:
            raise MeshEmbedded(
                "This mesh ends with its last client, so a job cannot be left alone on it; start one that stays with "
                "`batchmesh up`, or use `batchmesh run`."
            )

    @asynccontextmanager
    async def _alone(self, job_ids: set[str]) -> AsyncIterator[None]:
        """Another call with one of these ids ends first, for what it reserves is not ours to give back."""
        async with self._free:
            await self._free.wait_for(lambda: not self._taken & job_ids)
            self._taken |= job_ids
        try:
            yield
        finally:
            async with self._free:
                self._taken -= job_ids
                self._free.notify_all()

    async def _new_of(self, specs: Specs) -> Specs:
        """Those that are not there yet. Errors: JobExists."""

        def submitted(db: Database) -> dict[str, bytes]:
            rows = (tables.find_job(db, job_id) for job_id in specs)
            return {row.job_id: row.submitted_spec for row in rows if row is not None}

        there = await asyncio.wrap_future(self._store.read(submitted))
        for job_id, spec in there.items():
            if completed(job_pb2.JobSpec.FromString(spec)) != specs[job_id]:
                raise JobExists(f"Job {job_id} was submitted with another spec; choose another id.")
        return {job_id: spec for job_id, spec in specs.items() if job_id not in there}

    # ---- what is looked at ----

    async def _checked(self, new: Specs, several: bool) -> dict[str, int]:
        """The kind of each job's input, as a number; 0 where that cannot be told yet."""
        before = await self._before(new)
        kinds: dict[str, int] = {}
        for job_id, spec in new.items():
            with _naming(job_id, several):
                if spec.compute_target:
                    self._targets.check(spec.compute_target)
                outputs = [before[each].output for each in after.ahead(job_id, _edges(before)) if each in before]
                kinds[job_id] = await self._kind(spec, outputs)
                there = after.there_now([each.reference for each in spec.side_inputs if each.reference], outputs)
                await check_side_inputs(spec, self._dispatcher.datastores, there)
                await self._publisher.check_artifacts(spec)
        return kinds

    async def _before(self, new: Specs) -> Specs:
        """These jobs, and all that come before them and have not ended yet. Errors: SpecRefused."""
        wanted = {each: job_id for job_id, spec in new.items() for each in spec.after if each not in new}
        known, found = await asyncio.wrap_future(
            self._store.read(lambda db: (after.known(db, wanted), after.unfinished_ahead(db, wanted)))
        )
        for each, job_id in wanted.items():
            if each not in known:
                sentence = f"Job {job_id} comes after job {each}, which there is not; submit that one, too."
                _refuse("after", sentence)
        if ring := after.circle(_edges(new)):
            _refuse("after", _in_words(ring))
        return {**{job_id: job_pb2.JobSpec.FromString(spec) for job_id, spec in found.items()}, **new}

    async def _kind(self, spec: job_pb2.JobSpec, outputs: list[str]) -> int:
        """Inputs that a job before this one writes are looked at when that one has ended."""
        there = after.there_now(spec.inputs, outputs)
        if not there:
            return 0
        kind = await check_input(spec, self._dispatcher.datastores, there)
        return KIND_NUMBERS[kind] if len(there) == len(spec.inputs) else 0

    # ---- what is done ----

    async def _accept(self, new: Specs, kinds: Mapping[str, int], several: bool) -> None:
        reserved: list[str] = []
        try:
            for job_id, spec in new.items():
                reserved.append(job_id)
                with _naming(job_id, several):
                    await self._publisher.reserve(job_id, spec)
            await asyncio.wrap_future(self._store.write(_statements(new, kinds)))
        except BatchmeshError:
            await self._give_back(reserved)
            raise
        for job_id in new:
            await self._set_in_motion(job_id)

    async def _set_in_motion(self, job_id: str) -> None:
        row = await asyncio.wrap_future(self._store.read(lambda db: tables.find_job(db, job_id)))
        assert row is not None, "it has just been written"
        record = JobRecord(row, None)
        if row.let_in:
            self._dispatcher.start(record)
        else:
            self._anteroom.enter(record)

    async def _give_back(self, job_ids: list[str]) -> None:
        for job_id in job_ids:
            try:
                await self._publisher.release(job_id)
            except BatchmeshError as error:  # the next job for that folder is told what holds it
                structlog.get_logger().warning("output_not_released", job=job_id, why=str(error))


def _statements(new: Specs, kinds: Mapping[str, int]) -> list[Statement]:
    """All of them, for one transaction."""
    now = time.time()
    statements: list[Statement] = []
    for job_id, spec in new.items():
        labels = tables.Labels(spec.workspace, spec.pipeline_run, spec.experiment)
        at_once = not spec.after and not spec.allow_reuse
        edges = None if at_once else list(spec.after)
        statements += tables.add_job(job_id, spec.SerializeToString(), kinds[job_id], now, labels, edges)
    return statements


def _edges(specs: Specs) -> dict[str, list[str]]:
    return {job_id: list(spec.after) for job_id, spec in specs.items()}


def _in_words(ring: list[str]) -> str:
    if len(ring) == 1:
        return f"Job {ring[0]} comes after itself; take it out of its own 'after'."
    steps = ", which comes after job ".join([*ring, ring[0]])
    return f"Jobs come after one another in a circle: job {steps}; take one of them out."


def _refuse(field: str, sentence: str) -> None:
    raise SpecRefused(sentence, {field: sentence})


@contextmanager
def _naming(job_id: str, several: bool) -> Iterator[None]:
    """Of several jobs, an error says which one it is of."""
    try:
        yield
    except Refused as error:
        if not several:
            raise
        sentence = f"Job {job_id}: {error}"
        if isinstance(error, SpecRefused):
            raise SpecRefused(sentence, error.violations) from None
        raise type(error)(sentence) from None
