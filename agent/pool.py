"""A pool: the warm workers of one source, script, argv and environment, which may outlive their job."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog

from batchmesh.version import VERSION

from . import gpus, groups
from .frames import Failure, Kind
from .process import WorkerProcess
from .runner import Death, Result, Runner
from .supplies import lay_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .config import Config
    from .memory import Excess, Scales
    from .supplies import Model, SideInput, Supplies
    from .waiting import Attempt

log = structlog.get_logger()

#: In what a worker asks for by a name that stands for something else once there is a new version.
_BY_NAME = (b'"model://', b'"dataset://')


class Phase(IntEnum):
    """How far a pool is, with the numbers of PoolStatus in agent.proto (a test compares them)."""

    PREPARING = 1
    WAITING_FOR_SLOTS = 2
    WARMING = 3
    READY = 4
    FAILED = 5


class PoolState(NamedTuple):
    """What the scheduler is told of a pool. `failure` goes with FAILED."""

    phase: Phase
    workers: int = 0
    failure: Failure | None = None


@dataclass(frozen=True)
class Key:
    """What two jobs must have alike to share workers."""

    source_digest: str
    models: tuple[Model, ...]
    side_inputs: tuple[SideInput, ...]
    entry_script: str
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    logging_level: str
    #: Folder that --output names; empty for the pool's own, which is the same for each of its jobs.
    output: str
    #: Identity of the Python that its workers run in, once that is known.
    python: str = ""


class Served(Protocol):
    """The job that a pool serves, told on the event loop."""

    job_id: str

    def setup_message(self) -> bytes: ...
    def variables(self) -> Mapping[str, str]: ...
    def on_pool_changed(self) -> None: ...
    def on_results(self, results: list[Result]) -> None: ...
    def on_death(self, runner: Runner, death: Death) -> None: ...
    def on_given_back(self, attempts: list[Attempt]) -> None: ...
    def on_output(self, runner: Runner, stream: str, data: bytes) -> None: ...
    def on_fetch(self, runner: Runner, wish: bytes) -> None: ...
    def may_receive(self, size: int) -> bool: ...


class Pool:
    """The workers, and what became of init(). It serves one job at a time."""

    def __init__(
        self,
        number: int,
        key: Key,
        supplies: Supplies,
        config: Config,
        records: groups.Groups,
        scales: Scales,
        rebalance: Callable[[], None],
    ) -> None:
        """`rebalance` is called when its workers or its wishes have changed."""
        self.number = number
        self.key = key
        self.runners: list[Runner] = []
        self.wanted = 0
        self.since = 0
        self.idle_since = time.monotonic()
        #: Why it is no use to its job, once init() has failed too often.
        self.failure: Failure | None = None
        #: Takes no other job; its workers are ending.
        self.retired = False
        #: What its workers have read may be another thing for the next job: no stamp or version is part of the key.
        self.short_lived = any(each.reference for each in key.side_inputs)
        self._job: Served | None = None
        self._failures = 0
        self._early_deaths = 0
        #: Workers so far. Each has a folder of its own: what a dead one left there is not for the next.
        self._started = 0
        self._empty = asyncio.Event()
        self._supplies = supplies
        self._config = config
        self._records = records
        self._scales = scales
        self._rebalance = rebalance
        self._folder = config.work / "pools" / f"{os.getpid()}-{number}"
        self._output = key.output or str(self._folder / "output")
        self._models = self._folder / "models"
        os.makedirs(self._output, exist_ok=True)
        lay_out(supplies.models, self._models)

    # What it has.

    @property
    def serving(self) -> bool:
        return self._job is not None

    @property
    def ready(self) -> list[Runner]:
        """The workers that take mini-batches."""
        return [each for each in self.runners if each.ready and not each.ending]

    @property
    def live(self) -> int:
        return sum(not each.ending for each in self.runners)

    @property
    def ending(self) -> int:
        return sum(each.ending for each in self.runners)

    def state(self) -> PoolState:
        workers = len(self.ready)
        if self.failure is not None:
            return PoolState(Phase.FAILED, 0, self.failure)
        if workers:
            return PoolState(Phase.READY, workers)
        return PoolState(Phase.WARMING if self.live else Phase.WAITING_FOR_SLOTS)

    # Its jobs.

    def serve(self, job: Served, wanted: int, since: int) -> None:
        """The next job. Its workers learn of it; more are started as the node's slots allow."""
        self._job, self.wanted, self.since = job, wanted, since
        self._failures = self._early_deaths = 0
        for each in self.runners:
            if not each.ending:
                each.take_job(job.setup_message())
        self._rebalance()

    def let_go(self, since: int) -> None:
        """The job is over; workers that still run something for it are killed."""
        for each in self.runners:
            if each.busy:
                each.kill()
        self._job, self.wanted, self.since = None, 0, since
        self.idle_since = time.monotonic()
        self._rebalance()

    # Its workers.

    def start_worker(self, number: int) -> None:
        """Starts one more, whose process number is `number`."""
        assert self._job is not None
        self._started += 1
        folder = self._folder / f"process{number:03d}-{self._started}"
        try:
            process = WorkerProcess(self._supplies.python.command, self._environment(number), folder)
        except (OSError, ValueError) as error:
            self._fail(Failure(Kind.ENVIRONMENT, f"A worker process could not be started: {error}."))
            return
        self._records.add(process.pid)
        self._scales.add(process.pid)
        runner = Runner(process, number, self)
        self.runners.append(runner)
        runner.set_up(self._setup(), self._job.setup_message())
        runner.expect_ready(self._config.init_timeout, self._on_init_timeout)
        log.info("worker_started", pool=self.number, process=number, pid=process.pid, job=self._job.job_id)

    def yield_worker(self) -> None:
        """Ends one worker as soon as it is idle; one that still starts goes at once."""
        candidates = [each for each in self.runners if not each.ending]
        chosen = min(candidates, key=lambda each: (each.busy, each.idle_since))
        self._end(chosen)

    def end_workers(self) -> None:
        """Takes no other job, and ends all workers as soon as each is idle."""
        self.retired = True
        for each in self.runners:
            if not each.ending:
                self._end(each)

    async def retire(self) -> None:
        """Takes no other job and ends all workers; returns when they are gone, which shutdown_timeout bounds."""
        self.wanted = 0
        self.end_workers()
        while self.runners:
            self._empty.clear()
            await self._empty.wait()

    def kill_workers(self) -> None:
        for each in self.runners:
            each.kill()

    def remove(self) -> None:
        """Deletes its folders, and lets go of what its workers needed; no worker may be left."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._supplies.release()

    def _end(self, runner: Runner) -> None:
        """The files of a summary_only job may still be written by threads that the script has started."""
        if runner.ready:
            runner.end(self._config.shutdown_timeout, linger=bool(self.key.output))
        else:
            runner.kill()

    def _setup(self) -> dict[str, Any]:
        script = self.key.entry_script
        return {
            "root": str(self._supplies.source),
            "script": script,
            "argv": [str(self._supplies.source / script), "--output", self._output, *self.key.arguments],
            "logging_level": self.key.logging_level,
        }

    def _environment(self, number: int) -> dict[str, str]:
        assert self._job is not None
        side_inputs = self._supplies.side_inputs.items()
        return {
            "PYTHONHASHSEED": "0",  # a set printed by two workers, or by two runs, reads the same
            **self._supplies.python.variables,
            **gpus.one_for(number, self._config.gpus),
            **self._job.variables(),
            **{f"AZUREML_DATAREFERENCE_{name}": path for name, path in side_inputs},
            **dict(self.key.environment),
            "AZUREML_BI_OUTPUT_PATH": self._output,
            "AZUREML_MODEL_DIR": str(self._models),
            "BATCHMESH_VERSION": VERSION,
            "BATCHMESH_WORKER": f"{self._config.node_id}-process{number:03d}",
            groups.MARK: groups.mark(self._config.work),
        }

    # What its workers tell.

    def on_ready(self, runner: Runner) -> None:
        self._failures = 0
        log.info("worker_ready", pool=self.number, process=runner.number)
        if runner.ending:
            self._end(runner)
        self._changed()

    def on_init_failed(self, runner: Runner, failure: Failure) -> None:
        """init() raised; the runner's end follows."""
        log.warning("init_failed", pool=self.number, process=runner.number, error=failure.message)
        self._count_failure(failure)

    def on_results(self, runner: Runner, results: list[Result]) -> None:
        self._early_deaths = 0
        if self._job is not None:
            self._job.on_results(results)
        if runner.ending and not runner.busy:
            self._end(runner)

    def on_given_back(self, attempts: list[Attempt]) -> None:
        if self._job is not None:
            self._job.on_given_back(attempts)

    def on_output(self, runner: Runner, stream: str, data: bytes) -> None:
        if self._job is not None:
            self._job.on_output(runner, stream, data)

    def on_fetch(self, runner: Runner, wish: bytes) -> None:
        self.short_lived = self.short_lived or any(each in wish for each in _BY_NAME)
        if self._job is not None:
            self._job.on_fetch(runner, wish)
        else:
            runner.take_fetched({"error": "nothing can be fetched while there is no job; ask in init() or run()"}, [])

    def may_receive(self, size: int) -> bool:
        return self._job is None or self._job.may_receive(size)

    def on_death(self, runner: Runner, death: Death) -> None:
        self.runners.remove(runner)
        self._records.remove(runner.pid)
        self._scales.remove(runner.pid)
        if not self.runners:
            self._empty.set()
        log.info("worker_ended", pool=self.number, process=runner.number, how=death.how)
        likely = "" if runner.was_told_to_end else self._likely_cause(death.how)
        if not runner.was_told_to_end and death.culprit is None and not death.useful:
            self._on_early_death(runner, f"The worker process {death.how} {_when(runner)}.{likely}")
        if death.failure is not None and likely:
            death = death._replace(failure=death.failure._replace(message=death.failure.message + likely))
        if self._job is not None:
            self._job.on_death(runner, death)
        self._changed()

    def _likely_cause(self, how: str) -> str:
        """A sentence more on a death that nobody here wanted, where the kernel tells of one."""
        if not how.endswith("(SIGKILL)") or not self._scales.kernel_ended_one():
            return ""
        return " The kernel has just ended a process here for lack of memory, which is the likely cause."

    def _on_early_death(self, runner: Runner, sentence: str) -> None:
        """A worker ends that has not answered a mini-batch, and has none."""
        if runner.ready:
            self._early_deaths += 1
            self._failures = max(self._failures, self._early_deaths - 1)
        self._count_failure(Failure(Kind.INIT_FAILED, sentence))

    def end_overweight(self, runner: Runner, excess: Excess) -> None:
        """What it runs has failed for it; of what it keeps between two mini-batches no one of them is guilty."""
        attempt, early = runner.running(), not (runner.useful or runner.was_told_to_end)
        log.warning("worker_too_large", pool=self.number, process=runner.number, used=excess.used, limit=excess.limit)
        if attempt is not None:
            runner.kill_for(attempt, Failure(Kind.OUT_OF_MEMORY, excess.sentence(runner.doing())))
            return
        runner.kill()
        if early:
            self._on_early_death(runner, excess.sentence(_when(runner)))

    def _on_init_timeout(self, runner: Runner) -> None:
        sentence = f"init() did not return within {self._config.init_timeout:g} seconds."
        self._count_failure(Failure(Kind.INIT_FAILED, sentence))
        runner.kill()

    def _count_failure(self, failure: Failure) -> None:
        """A pool that has ready workers goes on with those; one without gives up after a few failures in a row."""
        self._failures += 1
        if self._failures < self._config.init_tries or self._job is None:
            return
        if self.ready:
            self.wanted = len(self.ready)
        else:
            self._fail(failure)

    def _fail(self, failure: Failure) -> None:
        self.failure = failure
        self.wanted = 0
        self.kill_workers()
        self._changed()

    def tell(self) -> None:
        """Tells its job how it stands."""
        if self._job is not None:
            self._job.on_pool_changed()

    def _changed(self) -> None:
        self._rebalance()
        self.tell()


def _when(runner: Runner) -> str:
    """Of a worker that has never answered a mini-batch."""
    return "before its first mini-batch" if runner.ready else "during init()"
