"""A job that runs, as far as performing its commands needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .jobs import JobRecord
    from .planning import Planning
    from .streams import NodeStream


class ActiveJob:
    """Its record, the payloads of its open mini-batches, its streams, its planning."""

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        #: Payload and affinity of each mini-batch that is open in the Machine.
        self.payloads: dict[int, tuple[bytes, int]] = {}
        self.streams: dict[str, NodeStream] = {}
        self.planning: Planning | None = None
        #: The plan is durable up to here, and read up to there.
        self.planned = record.row.planned
        self.fed = 0
        self.feeding = False
