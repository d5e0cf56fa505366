"""One RunMiniBatches call that leads to a job of this node: its credits, and what is told over it.

The service reads the stream and calls dispatch(), abort(), acknowledge(), finish() and abort_all(); responses() is what
it sends. The job outlives the call unless it was ended over it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .window import credits_to_return

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from .job import Job
    from .outbox import Response


class Attachment:
    """From the opening of the call until either side has ended it, or a newer one has taken its place."""

    def __init__(self, job: Job, held: Response) -> None:
        """`held` is the first response."""
        self._job = job
        self._held = held
        #: Mini-batches that were asked for and have not come.
        self._granted = 0
        self._finishing = False
        self._over = False
        self._wake = asyncio.Event()

    # What the scheduler says. What it said before a newer stream came is no news any more.

    def dispatch(self, mini_batches: list[tuple[int, int, int, bytes, int, int]]) -> None:
        """As Job.dispatch."""
        if not self._over:
            self._granted = max(0, self._granted - len(mini_batches))
            self._job.dispatch(mini_batches)

    def abort(self, attempt_ids: Iterable[int]) -> None:
        if not self._over:
            self._job.abort(attempt_ids)

    def acknowledge(self, count: int) -> None:
        """`count` responses with outcomes of this stream are durable with the scheduler."""
        if not self._over:
            self._job.outbox.acknowledge(count)
            self._end_when_done()

    def finish(self) -> None:
        """There will be no more mini-batches: the job ends here once all is told and acknowledged."""
        if not self._over:
            self._finishing = True
            self._end_when_done()

    def abort_all(self) -> None:
        """The job ends here now."""
        if not self._over:
            self._job.end_all()

    def _end_when_done(self) -> None:
        """The last thing to come is an acknowledgement, or `finish` itself."""
        if self._finishing and self._job.done:
            self._job.end()

    # What the scheduler is told.

    async def responses(self) -> AsyncIterator[Response]:
        """Everything that came up while the last response was on its way goes in the next."""
        yield self._held
        while not self._over:
            response = self._next()
            if response is not None:
                yield response
                continue
            await self._wake.wait()
            self._wake.clear()

    def wake(self) -> None:
        """There is something to tell."""
        self._wake.set()

    def wake_for_credits(self) -> None:
        """Attempts have ended: there may be credits to return."""
        if self._credits(leaving=False):
            self._wake.set()

    def _next(self) -> Response | None:
        outbox = self._job.outbox
        returned = self._credits(leaving=bool(outbox))
        if not returned and not outbox:
            return None
        response = outbox.take()
        response.credits = returned
        self._granted += returned
        return response

    def _credits(self, *, leaving: bool) -> int:
        if self._finishing:
            return 0
        return credits_to_return(self._job.target, len(self._job.open), self._granted, leaving=leaving)

    # Its end.

    def end(self) -> None:
        """Nothing more is told over it: the call ends."""
        self._over = True
        self._wake.set()

    def detach(self) -> None:
        """The call has ended."""
        self.end()
        self._job.detach(self)
