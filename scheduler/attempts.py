"""The attempts of a job that are out: begun, ended, and brought back when their node is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .model import Failure, FailureKind, Running

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .model import JobState, MiniBatch

#: Losses of a mini-batch with its node that are no try. One more, and it may be what ends nodes.
_FREE_LOSSES = 3
#: Of an attempt that has no node any more.
NOWHERE = ""


def begin(job: JobState, attempt_id: int, mini_batch: MiniBatch, node_id: str, now: float) -> None:
    job.running[attempt_id] = Running(mini_batch, node_id, now)
    if mini_batch.level:
        job.parts_out += 1


def double(job: JobState, attempt_id: int, second_id: int, node_id: str, now: float) -> MiniBatch:
    """Begins a second attempt of what is out already."""
    first = job.running[attempt_id]
    begin(job, second_id, first.mini_batch, node_id, now)
    first.doubled = job.running[second_id].doubled = True
    job.twins[attempt_id], job.twins[second_id] = second_id, attempt_id
    return first.mini_batch


def take(job: JobState, attempt_id: int) -> Running | None:
    """Strikes off an attempt that has ended; None when it was not out."""
    running = job.running.pop(attempt_id, None)
    if running is None:
        return None
    if running.mini_batch.level:
        job.parts_out -= 1
    pool = job.pools.get(running.node_id)
    if pool is not None:
        pool.open -= 1
    return running


def part_twins(job: JobState, attempt_id: int) -> int:
    """The other attempt of the same mini-batch, now the only one; 0 when there is none."""
    other = job.twins.pop(attempt_id, 0)
    if other:
        del job.twins[other]
    return other


def out_on(job: JobState, node_id: str) -> list[int]:
    """Attempts that are out on a node, oldest first. Not for the hot path: it looks at all of them."""
    return sorted(attempt for attempt, running in job.running.items() if running.node_id == node_id)


def bring_back(job: JobState, attempts: Iterable[int]) -> None:
    """What these attempts were to do waits again, without a try, unless another attempt is at it."""
    lone: list[MiniBatch] = []
    for attempt in attempts:
        running = take(job, attempt)
        if running is not None and not part_twins(job, attempt):
            lone.append(running.mini_batch)
    wait_first(job, lone)


def wait_first(job: JobState, mini_batches: Iterable[MiniBatch]) -> None:
    """Puts mini-batches before all that wait, in order."""
    job.waiting.extendleft(sorted(mini_batches, key=lambda each: (-each.index, -each.first)))


def count_losses(job: JobState, node_id: str) -> list[tuple[int, Failure]]:
    """Counts what may have begun on a node that is lost: as many of the oldest as it had workers.

    Those lost too often stay out, nowhere, until their loss is recorded as a try; they are returned.
    """
    suspected = out_on(job, node_id)[: max(1, job.pools[node_id].workers)]
    recorded = []
    for attempt in suspected:
        running = job.running[attempt]
        running.mini_batch.lost += 1
        if running.mini_batch.lost > _FREE_LOSSES:
            running.node_id = NOWHERE
            recorded.append((attempt, _loss(node_id, running.mini_batch.lost)))
    return recorded


def _loss(node_id: str, times: int) -> Failure:
    sentence = f"Node {node_id} was lost while it ran, as {times - 1} nodes were before; it may be what ends them."
    return Failure(FailureKind.NODE_LOST, sentence)


def drop_all(job: JobState) -> None:
    """Forgets all that is open, of a job that comes to its end."""
    for each in (job.waiting, job.running, job.twins, job.isolations, job.awaited):
        each.clear()
    job.parts_out = 0
