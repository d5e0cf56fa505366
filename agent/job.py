"""One job served on this node, for as long as the scheduler's stream lasts.

    stream ──Dispatch──▶ line ──▶ runners ──results──▶ uploader ──durable──▶ outbox ──Outcomes──▶ stream
                                     └──────credits────────────────────────────┘

The service reads the stream and calls dispatch(), abort(), end_all() and half_close(); responses() is what it sends.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from batchmesh import errors

from .frames import Failure, Kind
from .logs import JobLogs
from .outbox import Outbox, Response
from .pool import Phase, PoolState
from .uploader import PAUSE_ALL_BUSY, PAUSE_SOME_BUSY, Uploader
from .waiting import Attempt, Line
from .window import credits_to_return

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from .budget import Budget
    from .config import Config
    from .opening import Opening
    from .pool import Pool
    from .pools import Pools
    from .runner import Death, Result, Runner
    from .sources import Sources
    from .storages import Storage

log = structlog.get_logger()


@dataclass
class Node:
    """What all jobs of this agent share."""

    config: Config
    sources: Sources
    pools: Pools
    budget: Budget
    #: It finishes what it has and asks for nothing new.
    draining: bool = False
    #: Job streams so far; makes segment names unique.
    streams: int = 0


class JobStream:
    """The state of one RunMiniBatches call. Lives on the event loop."""

    def __init__(self, node: Node, storage: Storage, opening: Opening) -> None:
        node.streams += 1
        self.job_id = opening.job_id
        self.open: dict[int, Attempt] = {}
        self._node = node
        self._storage = storage
        self._opening = opening
        self._line = Line()
        self._granted = 0
        self._pool: Pool | None = None
        self._outbox = Outbox()
        self._told = PoolState(Phase.PREPARING)
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._half_closed = False
        self._done = False
        self._log = log.bind(job=self.job_id)
        self._uploader = Uploader(
            storage, self.job_id, f"{node.config.node_id}-{node.streams}", node.budget, self._on_durable, self._pause
        )
        self._logs = JobLogs(storage, self.job_id, node.config.node_id, node.config.log_bytes)
        self._shipping = asyncio.create_task(self._logs.ship_every(node.config.log_interval))
        self._preparing = asyncio.create_task(self._prepare())
        node.budget.subscribe(self._on_room)
        self._say(self._told)

    # The stream's two directions.

    def half_close(self) -> None:
        """The scheduler has no more: what is open is answered, then the stream ends."""
        self._half_closed = True
        self._finishing = asyncio.create_task(self._finish())

    async def responses(self) -> AsyncIterator[Response]:
        """Everything that came up while the last response was on its way goes in the next."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (response := self._next_response()) is not None:
                yield response
            if self._done:
                return

    async def close(self) -> None:
        """The stream is over. One that broke ends its open attempts; their workers are killed, the others stay warm."""
        if not self._done:
            self._done = True
            self.end_all()
            self._uploader.abandon()
            await self._leave_pool()
        self._node.budget.unsubscribe(self._on_room)
        self._logs.stop()

    @property
    def idle(self) -> bool:
        """Nothing is open here and nothing is left to tell."""
        return not self.open and not self._outbox and self._uploader.empty

    def _next_response(self) -> Response | None:
        returned = self._credits(leaving=bool(self._outbox))
        if not returned and not self._outbox:
            return None
        response = self._outbox.take()
        response.credits = returned
        self._granted += returned
        return response

    def _credits(self, *, leaving: bool) -> int:
        if self._pool is None or self._half_closed or self._node.draining:
            return 0
        targets = sum([1 + each.window.waiting for each in self._pool.ready])
        return credits_to_return(targets, len(self.open), self._granted, leaving=leaving)

    def _say(self, state: PoolState) -> None:
        self._told = state
        self._outbox.set_state(state)
        self._wake.set()

    def _say_failed(self, why: str) -> None:
        self._log.warning("no_pool", error=why)
        self._say(PoolState(Phase.FAILED, 0, Failure(Kind.ENVIRONMENT, why)))

    # The way in.

    async def _prepare(self) -> None:
        """Fetches the source and takes a pool; PHASE_FAILED if that cannot be."""
        digest = self._opening.key.source_digest
        try:
            source = await self._node.sources.hold(self._storage, digest)
        except (errors.BatchmeshError, OSError) as error:
            self._say_failed(f"The source could not be fetched: {error}")
            return
        except Exception as error:  # noqa: BLE001 a job that waits without a word is worse than any error
            self._log.exception("source_not_prepared")
            self._say_failed(f"The source could not be prepared: {type(error).__name__}: {error}")
            return
        try:
            if not self._done:
                self._pool = self._node.pools.serve(self, self._opening.key, source, self._opening.processes)
        except OSError as error:
            self._say_failed(f"The pool's folders could not be made: {error}.")
        finally:
            self._node.sources.release(digest)

    def dispatch(self, mini_batches: Iterable[tuple[int, int, int, bytes, int]]) -> None:
        """Attempt, mini-batch, try number, payload and affinity of each."""
        count = -len(self.open)
        for fields in mini_batches:
            attempt = Attempt(*fields)
            self.open[attempt.attempt_id] = attempt
            self._line.append(attempt)
        self._granted = max(0, self._granted - count - len(self.open))
        if self._pool is not None and self._pool.failure is not None:
            self._give_back_line("The node's workers have failed.")
        self._pump()

    def _pump(self) -> None:
        """Gives waiting mini-batches to workers that have room, evenly, while storage keeps up."""
        waiting = len(self._line)
        if not waiting or self._pool is None or self._node.budget.full:
            return
        runners = [each for each in self._pool.ready if not each.held_up]
        if not runners:
            return
        level = -(-(waiting + sum([len(each.sent) for each in runners])) // len(runners))
        for runner in sorted(runners, key=_load) if len(runners) > 1 else runners:
            room = min(level, 1 + runner.window.along) - len(runner.sent)
            if room > 0 and self._line:
                runner.give(self._line.take(runner.number, room))

    def _on_room(self) -> None:
        if self._pool is not None:
            for each in self._pool.runners:
                each.go_on_receiving()
        self._pump()

    # What the pool tells.

    def setup_message(self) -> bytes:
        return self._opening.job_message

    def may_receive(self, size: int) -> bool:
        return self._node.budget.fits(size)

    def on_pool_changed(self) -> None:
        if self._pool is None or self._done:
            return
        state = self._pool.state()
        if state != self._told:
            self._say(state)
        if self._pool.failure is not None:
            self._give_back_line("The node's workers have failed.")
        self._pump()

    def on_output(self, runner: Runner, stream: str, data: bytes) -> None:
        self._logs.write(stream, runner.number, data)

    def on_results(self, results: list[Result]) -> None:
        wanted = [each for each in results if self.open.pop(each.attempt.attempt_id, None) is not None]
        durable = [each for each in wanted if not each.kind]
        if durable:
            self._uploader.add(durable)
        if len(durable) < len(wanted):
            for each in wanted:
                if each.kind:
                    times = (each.started_us, each.run_us, each.elapsed_us)
                    self._outbox.add_failed(
                        each.attempt.attempt_id, Failure.decoded(bytes(each.frame)), each.process, times
                    )
            self._wake.set()
        self._pump()
        if self._credits(leaving=False):
            self._wake.set()
        if not self.open:
            self._logs.soon()
            self._uploader.hurry()
            self._answered.set()

    def on_death(self, runner: Runner, death: Death) -> None:
        self._line.forget(runner.number)
        culprit = death.culprit
        if culprit is not None and self.open.pop(culprit.attempt_id, None) is not None:
            failure = death.failure or Failure(Kind.NOT_STARTED, "It was ended as asked.")
            about = {"attempt": culprit.attempt_id, "mini_batch": culprit.mini_batch, "process": runner.number}
            self._log.warning("attempt_failed", **about, error=failure.message)
            self._outbox.add_failed(culprit.attempt_id, failure, runner.number, death.times)
        self.on_given_back(death.unanswered)
        self._wake.set()
        if not self.open:
            self._answered.set()

    def on_given_back(self, attempts: list[Attempt]) -> None:
        """Mini-batches that their worker has not begun and will not: they go elsewhere, at no cost."""
        wanted = [each for each in attempts if each.attempt_id in self.open]
        for each in wanted:
            each.runner = None
        self._line.put_back(wanted)

    def tick(self, now_ns: int, pause_ns: int) -> None:
        """Ends workers that overstayed a limit of this job; what waits behind a long run() goes elsewhere."""
        runners = list(self._pool.runners) if self._pool is not None else []
        for runner in runners if len(runners) > 1 else ():
            self.on_given_back(runner.recall(now_ns))
        self._pump()
        for runner in runners:
            overdue = runner.overstay(now_ns, pause_ns, self._opening.limits)
            if overdue is not None:
                runner.kill_for(*overdue)

    # The way out.

    def _on_durable(self, segment: str, offset: int, results: list[Result]) -> None:
        self._outbox.add_durable(segment, offset, results)
        self._wake.set()

    def _pause(self) -> float:
        runners = self._pool.ready if self._pool is not None else []
        busy = sum([bool(each.sent) for each in runners])
        if not busy:
            return 0.0
        return PAUSE_ALL_BUSY if busy == len(runners) else PAUSE_SOME_BUSY

    async def _finish(self) -> None:
        """After the half-close: answer what is open, make it durable, end the pool where it must, ship the logs."""
        while self.open:
            self._answered.clear()
            await self._answered.wait()
        await self._uploader.finish()
        if self._done:
            return
        await self._leave_pool()
        self._logs.stop()
        await self._shipping
        self._done = True
        self._wake.set()

    async def _leave_pool(self) -> None:
        """A pool of a summary_only job ends with it, after shutdown() has written what it writes."""
        await self._preparing
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for each in pool.runners:
            each.drain_output()
        await self._node.pools.give_back(pool, keep=not self._opening.summary_only)

    # Attempts that are not to be.

    def end_all(self) -> None:
        """Ends all open attempts and answers none."""
        self.open.clear()
        self._line.clear()
        self._outbox.drop_outcomes()
        for runner in self._pool.runners if self._pool is not None else ():
            if runner.busy:
                runner.kill()
        self._answered.set()

    def abort(self, attempt_ids: Iterable[int]) -> None:
        for attempt_id in attempt_ids:
            attempt = self.open.get(attempt_id)
            if attempt is None:
                continue
            if attempt.runner is not None and attempt.runner.running() is attempt:
                attempt.runner.kill_for(attempt, None)
                continue
            if attempt.runner is None:
                self._line.remove(attempt)
            self._give_back(attempt, "It was dropped as asked.")

    def _give_back_line(self, why: str) -> None:
        for attempt in self._line.clear():
            self._give_back(attempt, why)

    def _give_back(self, attempt: Attempt, why: str) -> None:
        """Answers an attempt that has not begun; what its worker may still say of it is dropped."""
        del self.open[attempt.attempt_id]
        self._outbox.add_failed(attempt.attempt_id, Failure(Kind.NOT_STARTED, why))
        self._wake.set()
        if not self.open:
            self._answered.set()


def _load(runner: Runner) -> int:
    return len(runner.sent)
