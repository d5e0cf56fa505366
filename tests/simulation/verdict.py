"""What a job came to, against what a plain loop over its input gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.scheduler.model import State

from .expected import Fate, fate_of, succeeds

if TYPE_CHECKING:
    from .book import Book
    from .storage import Storage


def judge(book: Book, storage: Storage) -> None:
    """Raises a violation unless the job ended as it must, with exactly the rows that it must have."""
    workload, state = book.table.workload, book.table.state
    fates = [fate_of(planned, workload.limits) for planned in workload.mini_batches]
    if state is State.CANCELLED:
        if not book.cancelled:
            book.fail("it was cancelled by nobody")
        return
    if state is State.SUCCEEDED:
        _judge_output(book, storage, fates)
    if book.lost_for_good or (book.pool_failed and state is State.FAILED):
        return
    if (state is State.SUCCEEDED) != succeeds(fates, workload.mini_batches, workload.limits):
        book.fail(f"it ended as {state.name}, against its thresholds")


def _judge_output(book: Book, storage: Storage, fates: list[Fate]) -> None:
    """Rows in input order, none twice, none but of good items; of what a node's losses have spoilt, what succeeded."""
    output = storage.published.get(book.job_id)
    if output is None:
        book.fail("it succeeded without an output")
    wanted = [
        (index, item)
        for index, fate in enumerate(fates)
        for item in (sorted(_rows_told(book, storage, index)) if index in book.lost_for_good else fate.rows)
    ]
    if output != wanted:
        less, more = sorted(set(wanted) - set(output)), sorted(set(output) - set(wanted))
        book.fail(f"the output is not the plain loop's: {less} missing, {more} too many, {len(output)} rows in all")


def _rows_told(book: Book, storage: Storage, index: int) -> list[int]:
    return [item for good in book.good.get(index, {}).values() for _, item in storage.frames[good.attempt]]
