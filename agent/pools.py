"""All pools of the node: which one serves a job, who gets the slots, and when an idle one ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from . import slots
from .groups import Groups
from .memory import Excess, Scales
from .pool import Key, Pool, Served
from .supplies import filled_in

if TYPE_CHECKING:
    from .config import Config
    from .supplies import Supplies

log = structlog.get_logger()


class Pools:
    """The thin shell around slots.decide and memory.overweight. Made on the event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._groups = Groups(config.work)
        self._loop = asyncio.get_running_loop()
        self._scales = Scales(config.worker_memory, config.node_memory, self._tell_of)
        self._pools: dict[int, Pool] = {}
        self._counter = itertools.count(1)
        self._due = False

    @property
    def workers(self) -> int:
        """Live workers of all pools."""
        return sum(len(each.runners) for each in self._pools.values())

    @property
    def incoming(self) -> int:
        """Bytes of large results that are on their way from workers."""
        return sum(each.incoming for pool in self._pools.values() for each in pool.runners)

    def serve(self, job: Served, key: Key, supplies: Supplies, wanted: int) -> Pool:
        """An idle pool of that key, or a new one, now serves the job. 0 wants all slots.

        The supplies are released when the pool that got them is removed, or at once if there was one.
        """
        key = replace(key, arguments=filled_in(key.arguments, supplies.side_inputs), python=supplies.python.identity)
        pool = next(
            (each for each in self._pools.values() if each.key == key and not each.serving and not each.retired), None
        )
        if pool is None:
            number, rebalance = next(self._counter), self.rebalance_soon
            pool = Pool(number, key, supplies, self._config, self._groups, self._scales, rebalance)
            self._pools[pool.number] = pool
        else:
            supplies.release()
        pool.serve(job, min(wanted or self._config.slots, self._config.slots), next(self._counter))
        return pool

    async def give_back(self, pool: Pool, *, keep: bool) -> None:
        """The job is over. Without `keep` the pool ends, its workers calling shutdown(), before this returns."""
        if not keep or pool.failure is not None:
            await pool.retire()
        pool.let_go(next(self._counter))
        if pool.short_lived:
            pool.end_workers()

    def end_idle(self) -> None:
        """Ends the pools that have been without a job for too long."""
        for pool in self._pools.values():
            if not pool.serving and time.monotonic() - pool.idle_since > self._config.pool_idle_timeout:
                pool.end_workers()

    def kill_all(self) -> None:
        """Ends every worker now."""
        for pool in self._pools.values():
            pool.kill_workers()

    async def end_all(self) -> None:
        """Ends every worker, each as soon as it is idle, and waits for that within shutdown_timeout."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.shutdown_timeout):
                await asyncio.gather(*[each.retire() for each in self._pools.values()])
        self.kill_all()

    def rebalance_soon(self) -> None:
        """Decides anew once what is happening now has happened."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._rebalance)

    def _rebalance(self) -> None:
        self._due = False
        self._remove_empty()
        moves = slots.decide(self._config.slots, [_claim(each) for each in self._pools.values()])
        for number in moves.end:
            self._pools[number].yield_worker()
        for number in moves.start:
            self._pools[number].start_worker(self._free_number())
        for pool in self._pools.values():
            pool.tell()

    def _tell_of(self, over: list[Excess]) -> None:
        """On the thread of the scales."""
        self._loop.call_soon_threadsafe(self._end_overweight, over)

    def _end_overweight(self, over: list[Excess]) -> None:
        """Those that have not ended meanwhile."""
        by_group = {runner.pid: (pool, runner) for pool in self._pools.values() for runner in pool.runners}
        for excess in over:
            if excess.group in by_group:
                pool, runner = by_group[excess.group]
                pool.end_overweight(runner, excess)

    def _free_number(self) -> int:
        taken = {runner.number for pool in self._pools.values() for runner in pool.runners}
        return next(number for number in itertools.count() if number not in taken)

    def _remove_empty(self) -> None:
        for pool in [each for each in self._pools.values() if not each.serving and not each.runners]:
            del self._pools[pool.number]
            pool.remove()


def _claim(pool: Pool) -> slots.Claim:
    return slots.Claim(pool.number, pool.wanted, pool.live, pool.ending, pool.since)
