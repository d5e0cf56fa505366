"""How many mini-batches may wait with one worker: as many as cover a short time, told from its recent ones."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Microseconds that waiting mini-batches cover: more than a round trip to the scheduler, less than anyone notices.
COVER_US = 25_000
#: A message of more is no cheaper per mini-batch.
MOST = 256
#: The same for parts of row groups, each of which is decoded by every worker that gets a part of it. Less, and all
#: workers of a node decode every one; more, and a node has much left when others have nothing to do.
COVER_NEIGHBOURS_US = 500_000
MOST_NEIGHBOURS = 64
#: Of those in all, as a node goes through them for each that it gives to a worker.
MOST_IN_LINE = 512
_REMEMBERED = 8


class Window:
    """What one worker may have beside its running mini-batch.

    The slowest of the last few counts, not their mean: one slow mini-batch behind which others wait costs more than a
    round trip for each of many fast ones.
    """

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)
        #: Mini-batches to send to the worker beside the running one: 0 until enough fast ones were seen.
        self.along = 0

    def saw(self, elapsed_us: list[int]) -> None:
        """Takes in how long the latest mini-batches took in all, in order."""
        recent = self._recent
        recent.extend(elapsed_us)
        self.along = 0 if len(recent) < _REMEMBERED else min(MOST, COVER_US // max(1, *recent))

    @property
    def waiting(self) -> int:
        """Mini-batches to hold on this node for the worker beside the running one, wherever they wait: at least 1."""
        return max(1, self.along)

    @property
    def waiting_beside_neighbours(self) -> int:
        """The same where neighbours share what one worker decodes: so many that others find something of their own.

        By the mean of the recent ones, as one in which something is decoded says little of the next.
        """
        if len(self._recent) < _REMEMBERED:
            return self.waiting
        fitting = COVER_NEIGHBOURS_US * _REMEMBERED // max(1, sum(self._recent))
        return max(self.waiting, min(MOST_NEIGHBOURS, fitting))


def mini_batches_to_hold(windows: Sequence[Window], *, neighbours: bool) -> int:
    """How many a job would have on this node: 1 running with each worker, and those that wait."""
    least = sum([1 + each.waiting for each in windows])
    if not neighbours:
        return least
    return max(least, min(MOST_IN_LINE, sum([1 + each.waiting_beside_neighbours for each in windows])))


def credits_to_return(targets: int, open_count: int, granted: int, *, leaving: bool) -> int:
    """How many more mini-batches to ask for.

    `targets` is the sum over the workers of 1 running and those waiting, `open_count` what is here, `granted` what was
    asked for and has not come. Unless a message leaves anyway, nothing is asked for until half of the window is free.
    """
    free = targets - open_count - granted
    if free <= 0:
        return 0
    return free if leaving or free * 2 >= targets - targets % 2 or open_count == 0 else 0
