"""A node tells what it still holds of a job: what is wanted of it goes on, what is not is ended."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .attempts import begin, bring_back, out_on, wait_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events import HeldAttempt
    from .model import JobState, MiniBatch


def open_again(job: JobState, opened: Sequence[MiniBatch]) -> None:
    """Lets mini-batches wait that a node holds and that were not read from the plan yet."""
    if not opened:  # most often, and a thousand nodes may come at once while thousands are out
        return
    here = {each.index for each in job.waiting} | {each.mini_batch.index for each in job.running.values()}
    wait_first(job, [each for each in opened if each.index not in here])


def take_over(job: JobState, node_id: str, held: Sequence[HeldAttempt], now: float) -> list[int]:
    """Squares what was thought to be out on a node with what it holds; returns the attempts that it shall end.

    What it does not hold waits again. What it holds and was thought to wait is out.
    """
    if not held and not job.pools[node_id].open:
        return []
    mine = {each.attempt_id for each in held}
    bring_back(job, [attempt for attempt in out_on(job, node_id) if attempt not in mine])
    unwanted = _adopt(job, node_id, held, now) if held else []
    job.pools[node_id].open = len(out_on(job, node_id))
    return unwanted


def _adopt(job: JobState, node_id: str, held: Sequence[HeldAttempt], now: float) -> list[int]:
    waiting = {(each.index, each.part): each for each in job.waiting}
    before = len(waiting)
    if not job.running:
        job.last_progress = now
    unwanted = []
    for each in held:
        if each.attempt_id in job.running and job.running[each.attempt_id].node_id == node_id:
            continue
        wanted = waiting.get((each.index, each.part))
        if wanted is None or each.attempt_id <= wanted.ended:
            unwanted.append(each.attempt_id)
        else:
            begin(job, each.attempt_id, waiting.pop((each.index, each.part)), node_id, now)
    if len(waiting) < before:
        job.waiting = deque(waiting.values())
    return unwanted
