"""Storage as a model: frames by attempt, some of which turn out damaged, and the output that a commit makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .database import Row

#: The rows of an output: (mini-batch, item).
Output = list[tuple[int, int]]


@dataclass(slots=True)
class Storage:
    """Durable from the moment a write is answered; `away_until` is when it answers again."""

    frames: dict[int, Output] = field(default_factory=dict)
    damaged: set[int] = field(default_factory=set)
    published: dict[str, Output] = field(default_factory=dict)
    away_until: float = 0.0

    def write(self, attempt: int, rows: Output) -> None:
        assert attempt not in self.frames, f"attempt {attempt} wrote two frames"
        self.frames[attempt] = rows

    def commit(self, job_id: str, rows: Sequence[Row]) -> set[int]:
        """Publishes the frames that these rows name; or answers the mini-batches whose frames are damaged."""
        if job_id in self.published:
            return set()
        damaged = {row.index for row in rows if row.attempt in self.damaged and row.failure is None}
        if not damaged:
            self.published[job_id] = [
                place for row in rows if row.failure is None for place in self.frames.get(row.attempt, [])
            ]
        return damaged
