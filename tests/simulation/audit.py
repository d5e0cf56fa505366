"""The invariants, checked after each event: what the Machine commands and counts against the book of each job."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from batchmesh.scheduler.events import (
    Abort,
    AttemptsHeld,
    ClosePool,
    Commit,
    Discard,
    Dispatch,
    NodeLost,
    OpenPool,
    PoolChanged,
    RecordLoss,
    Settle,
    Ticked,
)
from batchmesh.scheduler.model import ACTIVE, State

from .book import Out, Part, Pool, part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchmesh.scheduler.events import Command, Event
    from batchmesh.scheduler.isolation import Isolation
    from batchmesh.scheduler.machine import Machine
    from batchmesh.scheduler.model import JobState, MiniBatch

    from .book import Book

    #: Attempts of a part, or of items of it, that nodes hold for a job.
    Held = Callable[[str, Part], list[int]]

#: Seconds that an attempt must have been out before another one is sent after it.
_LEAST_OUT = 1.0


class Audit:
    """One event of one job. Begun before the Machine takes it, ended with what the Machine commands."""

    def __init__(self, book: Book, machine: Machine, event: Event, now: float, held: Held) -> None:
        self._book = book
        self._machine = machine
        self._event = event
        self._now = now
        self._held = held
        job = machine.jobs.get(book.job_id)
        self._waited: dict[tuple[int, int], MiniBatch] = {}
        self._had_pool = isinstance(event, AttemptsHeld) and event.node_id in book.pools
        if self._had_pool and job is not None:
            self._waited = {(each.index, each.part): each for each in job.waiting}
        book.take(machine, event, now)

    def end(self, commands: Sequence[Command]) -> None:
        """Raises a violation for whatever of them, or of the Machine's state after them, is wrong."""
        book = self._book
        job = self._machine.jobs.get(book.job_id)
        if job is None:
            return
        if isinstance(self._event, AttemptsHeld) and self._had_pool:
            self._take_over(self._event, commands)
        losses = [each.attempt_id for each in commands if isinstance(each, RecordLoss) and each.job_id == book.job_id]
        self._losses(losses)
        for command in commands:
            if getattr(command, "job_id", "") == book.job_id:
                self._command(job, command)
        if job.state in ACTIVE:
            self._lost_races(commands)
            self._state(job)
        else:
            book.out.clear()
        book.losers.clear()

    # ---- commands ----

    def _command(self, job: JobState, command: Command) -> None:
        book = self._book
        match command:
            case Dispatch():
                self._dispatch(job, command)
            case Abort():
                self._abort(command)
            case OpenPool():
                pool = book.pools.setdefault(command.node_id, Pool())
                pool.window = 0
            case ClosePool():
                self._close(job, command)
            case Settle():
                for index in command.indexes:
                    self._settle(index)
            case Commit() | Discard():
                self._publish(job, discard=isinstance(command, Discard))
            case _:
                pass

    def _dispatch(self, job: JobState, command: Dispatch) -> None:
        book = self._book
        if book.awaited:
            book.fail(f"a dispatch before {sorted(book.awaited)} have said what they hold")
        pool = book.pools.get(command.node_id)
        if pool is None or pool.adrift_since >= 0 or not self._machine.nodes.get(command.node_id):
            book.fail(f"a dispatch to {command.node_id}, which cannot take it")
        pool.window -= len(command.attempts)
        if pool.window < 0:
            book.fail(f"{command.node_id} was sent {-pool.window} more than it asked for")
        for attempt, mini_batch in command.attempts:
            if attempt in book.seen:
                book.fail(f"attempt {attempt} was dispatched twice")
            self._begin(job, attempt, mini_batch, command.node_id)

    def _begin(self, job: JobState, attempt: int, mini_batch: MiniBatch, node_id: str) -> None:
        book, part = self._book, part_of(mini_batch)
        what = f"mini-batch {part.mini_batch}, items {part.first} to {part.first + part.items - 1},"
        if part.mini_batch in book.settled:
            book.fail(f"{what} is settled and was dispatched again")
        if any(
            _overlap(part.first, part.items, first, good.items) for first, good in book.good[part.mini_batch].items()
        ):
            book.fail(f"{what} has succeeded and was dispatched again")
        others = [other for other, out in book.out.items() if _overlaps(out.part, part)]
        if others:
            self._back_up(job, part, others, what)
        else:
            self._first(part, mini_batch, what)
        book.seen.add(attempt)
        book.sent_to[node_id].add(attempt)
        book.out[attempt] = Out(part, node_id, self._now)

    def _first(self, part: Part, mini_batch: MiniBatch, what: str) -> None:
        book = self._book
        held = [each for each in self._held(book.job_id, part) if each in book.seen and each not in book.given_up]
        if held:
            book.fail(f"{what} was dispatched, and a node still holds attempts {held} of it")
        if not part.level:
            tries, limit = len(book.failed[part.mini_batch]), book.table.workload.limits.run_max_try
            if mini_batch.tries != tries or (tries >= limit and part.mini_batch not in book.doubled):
                book.fail(f"{what} was dispatched with {mini_batch.tries} tries, it had {tries} of {limit}")

    def _back_up(self, job: JobState, part: Part, others: list[int], what: str) -> None:
        """A second attempt at once: of a whole mini-batch that has been out for long and never harmed anybody."""
        book = self._book
        limits, out = book.table.workload.limits, book.out[others[0]]
        wanted = limits.backup_attempts
        if wanted is None:
            wanted = limits.needs_rows and len(book.pools) > 1
        harmless = not (part.level or book.losses[part] or part.mini_batch in book.crashed)
        late = isinstance(self._event, Ticked) and self._now - out.since >= _LEAST_OUT and not job.waiting
        if not (wanted and harmless and late and len(others) == 1 and out.part == part and book.planning_ended):
            book.fail(f"{what} was dispatched while attempts {others} of it are out")
        book.doubled.add(part.mini_batch)
        book.met["backup"] += 1

    def _abort(self, command: Abort) -> None:
        """Only what nobody wants: what has lost a race, or is held and not to be taken over (checked there)."""
        book = self._book
        for attempt in command.attempts:
            out = book.out.pop(attempt, None)
            book.given_up.add(attempt)
            if out is not None:
                book.fail(f"attempt {attempt} of mini-batch {out.part.mini_batch} was aborted and is wanted")

    def _close(self, job: JobState, command: ClosePool) -> None:
        book = self._book
        if command.abort and job.state in ACTIVE:
            event = self._event
            if not (isinstance(event, NodeLost | PoolChanged) and event.node_id == command.node_id):
                book.fail(f"the pool on {command.node_id} was aborted for nothing")
        if job.state not in ACTIVE:
            book.pools.pop(command.node_id, None)

    def _settle(self, index: int) -> None:
        book = self._book
        if index in book.settled:
            book.fail(f"mini-batch {index} was settled twice")
        if any(out.part.mini_batch == index for out in book.out.values()):
            book.fail(f"mini-batch {index} was settled while attempts of it are out")
        book.settled[index] = book.tally(index)

    def _publish(self, job: JobState, discard: bool) -> None:
        book = self._book
        book.publishing += 1
        if book.publishing > 1:
            book.fail("two outputs are made at once")
        if discard:
            return
        if job.state is not State.COMMITTING or len(book.settled) + book.planned[2] != book.planned[0]:
            book.fail("a commit before all is settled")
        if book.out:
            book.fail(f"a commit while attempts {list(book.out)} are out")

    def _losses(self, recorded: list[int]) -> None:
        book = self._book
        if isinstance(self._event, NodeLost):
            expected = [attempt for attempt, out in book.out.items() if not out.node_id]
            new = [attempt for attempt in recorded if attempt not in expected]
            if new or not set(recorded) <= set(expected):
                book.fail(f"losses of attempts {new} were recorded as tries too early")
        book.lost_for_good |= {book.out[attempt].part.mini_batch for attempt in recorded if attempt in book.out}

    def _lost_races(self, commands: Sequence[Command]) -> None:
        """The slower of two attempts is ended."""
        book = self._book
        aborted = {attempt for each in commands if isinstance(each, Abort) for attempt in each.attempts}
        left = [each for each, node_id in book.losers.items() if each not in aborted and node_id in book.pools]
        if left:
            book.fail(f"attempts {left} have lost a race and were not aborted")

    # ---- what a node holds ----

    def _take_over(self, event: AttemptsHeld, commands: Sequence[Command]) -> None:
        """What is held and wanted is out on that node; what is held and not wanted is aborted; nothing else is out."""
        book, node_id = self._book, event.node_id
        pool = book.pools.get(node_id)
        if pool is None:
            return
        pool.adrift_since, pool.window = -1.0, 0
        book.awaited.discard(node_id)
        mine = {each.attempt_id for each in event.attempts}
        missing = [attempt for attempt in book.out_on(node_id) if attempt not in mine]
        back = {
            (out.part.mini_batch, out.part.level << 40 | out.part.first): out.part
            for out in map(book.out.get, missing)
            if out
        }
        book.bring_back(missing)
        aborted = {attempt for each in commands if isinstance(each, Abort) for attempt in each.attempts}
        wanted = {key: part_of(each) for key, each in self._waited.items()} | back | _opened(event)
        for each in event.attempts:
            self._held_one(each.attempt_id, wanted.get((each.index, each.part)), node_id, each.attempt_id in aborted)

    def _held_one(self, attempt: int, part: Part | None, node_id: str, aborted: bool) -> None:
        book = self._book
        out = book.out.get(attempt)
        if out is not None and out.node_id == node_id:
            if aborted:
                book.fail(f"attempt {attempt} was aborted, and was out on that very node")
            return
        elsewhere = part is not None and any(_overlaps(each.part, part) for each in book.out.values())
        free = part is not None and not elsewhere and attempt > max(book.ended.get(part, 0), book.told.get(part, 0))
        if aborted:
            book.given_up.add(attempt)
            if free:
                book.fail(f"attempt {attempt} was aborted, and nobody else is at it")
            return
        if part is None or not free:
            book.fail(f"attempt {attempt} was taken over, and has been done or is out elsewhere")
        book.met["part taken over" if part.level else "taken over"] += 1
        book.given_up.discard(attempt)
        book.seen.add(attempt)
        book.sent_to[node_id].add(attempt)
        book.out[attempt] = Out(part, node_id, self._now)

    # ---- the Machine's state ----

    def _state(self, job: JobState) -> None:
        book = self._book
        if job.running.keys() != book.out.keys():
            more, less = job.running.keys() - book.out.keys(), book.out.keys() - job.running.keys()
            book.fail(f"what is out is not what the Machine believes: {sorted(more)} too many, {sorted(less)} missing")
        self._counts(job)
        self._open(job)

    def _counts(self, job: JobState) -> None:
        counts, book = job.counts, self._book
        tallies = book.settled.values()
        bad = sum([tally.is_failed for tally in tallies])
        told = (
            counts.planned_mini_batches,
            counts.planned_items,
            counts.unreadable_mini_batches,
            counts.succeeded_mini_batches,
            counts.failed_mini_batches,
            counts.succeeded_items,
            counts.failed_items,
            counts.rows,
        )
        true = (
            *book.planned,
            len(tallies) - bad,
            bad,
            sum([tally.succeeded for tally in tallies]),
            sum([tally.failed for tally in tallies]) + book.planned[2],
            sum([tally.rows for tally in tallies]),
        )
        if told != true:
            book.fail(f"the counts are {told} and ought to be {true}")

    def _open(self, job: JobState) -> None:
        """Each item of what is open is in one place: waiting, out, done, or failed in a level that has not ended."""
        book = self._book
        places: dict[int, set[Part]] = {}
        for each in job.waiting:
            part = part_of(each)
            mine = places.setdefault(part.mini_batch, set())
            if part in mine:
                book.fail(f"{part} waits twice")
            mine.add(part)
        waiting = {index: set(parts) for index, parts in places.items()}
        for out in book.out.values():
            if out.part in waiting.get(out.part.mini_batch, ()):
                book.fail(f"{out.part} waits and is out")
            places.setdefault(out.part.mini_batch, set()).add(out.part)
        for index, parts in places.items():
            if index in book.settled:
                book.fail(f"mini-batch {index} is settled and open")
            self._cover(index, parts, job.isolations.get(index))
        for index in job.isolations:
            if index not in places:
                book.fail(f"mini-batch {index} is being split, and nothing of it waits or is out")

    def _cover(self, index: int, parts: set[Part], isolation: Isolation | None) -> None:
        book = self._book
        if len({part.level for part in parts}) > 1:
            book.fail(f"parts of several levels of mini-batch {index} are open at once")
        ranges = [(part.first, part.items) for part in parts]
        ranges += [(first, good.items) for first, good in book.good.get(index, {}).items()]
        ranges.sort()
        for (first, items), (second, _) in pairwise(ranges):
            if second < first + items:
                book.fail(f"items of mini-batch {index} from {second} on are in two places")
        whole = sum([items for _, items in ranges])
        if isolation is not None:
            good = sum([each.items for each in book.good.get(index, {}).values()])
            whole += isolation.failed_items + isolation.succeeded_items - good
            whole += sum([each.items for each in isolation.failed])
        if whole != book.items_of(index):
            book.fail(f"of the items of mini-batch {index}, {whole} of {book.items_of(index)} are somewhere")


def _overlap(first: int, items: int, other: int, other_items: int) -> bool:
    return first < other + other_items and other < first + items


def _overlaps(one: Part, other: Part) -> bool:
    return one.mini_batch == other.mini_batch and _overlap(one.first, one.items, other.first, other.items)


def _opened(event: AttemptsHeld) -> dict[tuple[int, int], Part]:
    """What the event has opened, by mini-batch and part."""
    opened = [*event.opened, *[part for isolation in event.isolations for part in isolation.open]]
    return {(each.index, each.part): part_of(each) for each in opened}
