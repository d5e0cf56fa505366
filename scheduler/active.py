"""A job that runs, as far as performing its commands needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .feeding import Feed
    from .jobs import JobRecord
    from .planning import Planning
    from .streams import NodeStream


class ActiveJob:
    """Its record, its plan as far as it is open, its streams."""

    def __init__(self, record: JobRecord, feed: Feed) -> None:
        self.record = record
        self.feed = feed
        self.planning: Planning | None = None
        #: One a node at most, until its end has been told.
        self.streams: dict[str, NodeStream] = {}
