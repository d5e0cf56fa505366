"""One job that this node serves, whichever streams lead to it: from its first OpenPool until it is given back.

    Attachment ──Dispatch──▶ line ──▶ runners ──results──▶ uploader ──durable──▶ outbox ──Outcomes──▶ Attachment
                                         └──────credits─────────────────────────────────────────────▶ Attachment

Without an attachment it goes on with what it has for one lease of the scheduler's: no run() is killed because a
connection was cut or a scheduler was started again. It ends when that lease is over, when it is asked to, or when
everything that it had was told and acknowledged and nothing more is to come.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from batchmesh.errors import BatchmeshError

from .attachment import Attachment
from .fetching import Asker
from .frames import Failure, Kind
from .keeping import Keeping
from .logs import JobLogs
from .outbox import Outbox, held_response
from .pool import Phase, PoolState
from .uploader import PAUSE_ALL_BUSY, PAUSE_SOME_BUSY
from .waiting import Attempt, Line
from .window import mini_batches_to_hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from .budget import Budget
    from .config import Config
    from .fetching import Fetching
    from .opening import Opening
    from .pool import Pool
    from .pools import Pools
    from .runner import Death, Result, Runner
    from .storages import Storage
    from .supplies import Supplier
    from .waiting import Held

log = structlog.get_logger()


@dataclass
class Node:
    """What all jobs of this agent share."""

    config: Config
    pools: Pools
    budget: Budget
    fetching: Fetching
    supplier: Supplier
    #: It finishes what it has and asks for nothing new.
    draining: bool = False
    #: Jobs so far; makes segment names unique.
    jobs: int = 0


class Job:
    """What this node has of one job. Lives on the event loop."""

    def __init__(self, node: Node, storage: Storage, opening: Opening, over: Callable[[Job], None]) -> None:
        """`over` is called once when nothing of it is left here."""
        node.jobs += 1
        self.job_id = opening.job_id
        self.opening = opening
        #: Attempts that wait or run.
        self.open: dict[int, Attempt] = {}
        self.outbox = Outbox()
        self._node = node
        self._storage = storage
        self._over = over
        self._line = Line()
        self._pool: Pool | None = None
        self._told = PoolState(Phase.PREPARING)
        #: Why results cannot be stored, and why input cannot be fetched, at present.
        self._held_up = self._input_held_up = ""
        self._attachment: Attachment | None = None
        self._lease_ns = 0
        #: Monotonic nanosecond at which the lease ends, while no stream leads here.
        self._until_ns = 0
        self._ending: asyncio.Task[None] | None = None
        self._to_end = asyncio.Event()
        self._log = log.bind(job=self.job_id)
        asker = self._asker = Asker(opening, storage)
        self._keeping = Keeping(node, asker, self.outbox, self._wake, self._pause, self._on_held_up)
        self._logs = JobLogs(storage, self.job_id, node.config.node_id, node.config.log_bytes)
        self._shipping = asyncio.create_task(self._logs.ship_every(node.config.log_interval))
        self._preparing = asyncio.create_task(self._prepare())
        node.budget.subscribe(self._on_room)

    # The streams that lead here.

    def attach(self, lease: float) -> Attachment:
        """A stream has come; it takes the place of an older one. `lease` is in seconds."""
        if self._attachment is not None:
            self._attachment.end()
        self._lease_ns = int(lease * 1e9)
        self._attachment = Attachment(self, held_response(self._held()))
        self.outbox.tell_again()
        self._say(self._told)
        return self._attachment

    def detach(self, attachment: Attachment) -> None:
        """A stream has ended, unasked unless the job has ended; an older one than the present one does not count."""
        if self._attachment is not attachment:
            return
        self._attachment = None
        if self._ending is None:
            self._until_ns = time.monotonic_ns() + self._lease_ns
            self._log.warning("detached", open=len(self.open), lease=self._lease_ns / 1e9)

    @property
    def attached(self) -> bool:
        """A stream leads here."""
        return self._attachment is not None

    @property
    def ending(self) -> bool:
        """It takes no more; a stream that comes for the same job finds nothing of it."""
        return self._ending is not None

    @property
    def done(self) -> bool:
        """Nothing is open here, everything is durable, told and acknowledged."""
        return not self.open and self._keeping.empty and self.outbox.settled

    @property
    def idle(self) -> bool:
        """Done, and not about to end either."""
        return self.done and not self.ending

    @property
    def target(self) -> int:
        """How many mini-batches it would have here: 1 running with each worker, and those that wait."""
        if self._pool is None or self.ending or self._node.draining:
            return 0
        return mini_batches_to_hold([each.window for each in self._pool.ready], neighbours=self._line.has_neighbours)

    def _held(self) -> Iterator[Held]:
        for each in self.open.values():
            yield each.attempt_id, each.mini_batch, each.part
        yield from self._keeping.held()
        yield from self.outbox.held()

    def _wake(self) -> None:
        if self._attachment is not None:
            self._attachment.wake()

    def _say(self, state: PoolState) -> None:
        self._told = state
        self.outbox.set_state(state, self._held_up or self._input_held_up)
        self._wake()

    def _say_failed(self, why: str) -> None:
        self._log.warning("no_pool", error=why)
        self._say(PoolState(Phase.FAILED, 0, Failure(Kind.ENVIRONMENT, why)))

    # The way in.

    async def _prepare(self) -> None:
        """Has what the workers need on this node, and takes a pool; PHASE_FAILED if that cannot be."""
        key = self.opening.key
        try:
            if self.opening.summary_only:
                key = replace(key, output=await self._keeping.output_folder())
            supplies = await self._node.supplier.supply(Asker(self.opening, self._storage), key, self._to_end)
        except (BatchmeshError, OSError) as error:
            if not self.ending:
                self._say_failed(str(error))
            return
        if self.ending:
            supplies.release()
            return
        try:
            self._pool = self._node.pools.serve(self, key, supplies, self.opening.processes)
        except OSError as error:
            supplies.release()
            self._say_failed(f"The pool's folders could not be made: {error}.")

    def dispatch(self, mini_batches: Iterable[tuple[int, int, int, bytes, int, int]]) -> None:
        """Attempt, mini-batch, try number, payload, affinity and part of each."""
        for fields in mini_batches:
            attempt = Attempt(*fields)
            self.open[attempt.attempt_id] = attempt
            self._line.append(attempt)
            self._node.fetching.ahead(self._asker, attempt.payload)
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
        return self.opening.job_message

    def variables(self) -> Mapping[str, str]:
        return self.opening.variables

    def may_receive(self, size: int) -> bool:
        return self._node.budget.fits(size, self._node.pools.incoming)

    def on_pool_changed(self) -> None:
        if self._pool is None or self.ending:
            return
        state = self._pool.state()
        if state != self._told:
            self._say(state)
        if self._pool.failure is not None:
            self._give_back_line("The node's workers have failed.")
        self._pump()

    def on_output(self, runner: Runner, stream: str, data: bytes) -> None:
        self._logs.write(stream, runner.number, data)

    def on_fetch(self, runner: Runner, wish: bytes) -> None:
        self._node.fetching.answer(runner, self._asker, wish, self._on_input_held_up)

    def on_results(self, results: list[Result]) -> None:
        wanted = [each for each in results if self.open.pop(each.attempt.attempt_id, None) is not None]
        self._keeping.take(wanted)
        self._pump()
        if self._attachment is not None:
            self._attachment.wake_for_credits()
        if not self.open:
            self._logs.soon()
            self._keeping.hurry()

    def on_death(self, runner: Runner, death: Death) -> None:
        self._line.forget(runner.number)
        culprit = death.culprit
        if culprit is not None and self.open.pop(culprit.attempt_id, None) is not None:
            failure = death.failure or Failure(Kind.NOT_STARTED, "It was ended as asked.")
            about = {"attempt": culprit.attempt_id, "mini_batch": culprit.mini_batch, "process": runner.number}
            self._log.warning("attempt_failed", **about, error=failure.message)
            self.outbox.add_failed(culprit, failure, runner.number, death.times)
        self.on_given_back(death.unanswered)
        self._wake()

    def on_given_back(self, attempts: list[Attempt]) -> None:
        """Mini-batches that their worker has not begun and will not: they go elsewhere, at no cost."""
        wanted = [each for each in attempts if each.attempt_id in self.open]
        for each in wanted:
            each.runner = None
        self._line.put_back(wanted)

    def tick(self, now_ns: int, pause_ns: int) -> None:
        """Ends workers that overstayed a limit of this job; what waits behind a long run() goes elsewhere.

        And ends the job that the scheduler has not asked for within its lease; an agent that was itself paused could
        not hear it.
        """
        if self._attachment is None and not self.ending:
            self._until_ns += pause_ns
            if now_ns > self._until_ns:
                self.lose_scheduler("no stream has come within its lease")
                return
        runners = list(self._pool.runners) if self._pool is not None else []
        for runner in runners:
            runner.go_on_receiving()  # what it waited for may have died on its way
        for runner in runners if len(runners) > 1 else ():
            self.on_given_back(runner.recall(now_ns))
        self._pump()
        for runner in runners:
            overdue = runner.overstay(now_ns, pause_ns, self.opening.limits)
            if overdue is not None:
                runner.kill_for(*overdue)

    # The way out.

    def _on_held_up(self, why: str) -> None:
        self._held_up = why
        self._say(self._told)

    def _on_input_held_up(self, why: str) -> None:
        if why != self._input_held_up:
            self._input_held_up = why
            self._say(self._told)

    def _pause(self) -> float:
        runners = self._pool.ready if self._pool is not None else []
        busy = sum([bool(each.sent) for each in runners])
        if not busy:
            return 0.0
        return PAUSE_ALL_BUSY if busy == len(runners) else PAUSE_SOME_BUSY

    # Its end.

    def lose_scheduler(self, why: str) -> None:
        """Ends what is open here as nobody waits for it any more."""
        self._log.warning("scheduler_lost", why=why, open=len(self.open))
        if self._attachment is not None:
            self._attachment.end()
        self.end_all()

    def end_all(self) -> asyncio.Task[None]:
        """Ends the job here and now: attempts that are open are killed, and nothing of them is told. As end()."""
        self.open.clear()
        self._line.clear()
        self.outbox.drop_outcomes()
        self._keeping.drop()
        for runner in self._pool.runners if self._pool is not None else ():
            if runner.busy:
                runner.kill()
        return self.end()

    def end(self) -> asyncio.Task[None]:
        """Ends the job here, of which nothing is open any more.

        Its stream ends with the returned task, when the pool is given back and the logs are with storage.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
            self._to_end.set()
            self._keeping.end()
        return self._ending

    async def _end(self) -> None:
        try:
            await self._leave_pool()
            await self._keeping.finish()
            self._node.budget.unsubscribe(self._on_room)
            self._logs.stop()
            await self._shipping
        finally:
            if self._attachment is not None:
                self._attachment.end()
            self._over(self)

    async def _leave_pool(self) -> None:
        """A pool of a summary_only job ends with it, after shutdown() has written what it writes."""
        await self._preparing
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for each in pool.runners:
            each.drain_output()
        await self._node.pools.give_back(pool, keep=not self.opening.summary_only)

    # Attempts that are not to be.

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
        self.outbox.add_failed(attempt, Failure(Kind.NOT_STARTED, why))
        self._wake()


def _load(runner: Runner) -> int:
    return len(runner.sent)
