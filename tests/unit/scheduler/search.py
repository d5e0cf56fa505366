"""A search for bad items in a test's hands: runs fail where they hold a bad item, rows are as the database has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from batchmesh.scheduler.events import AttemptEnd
from batchmesh.scheduler.isolation import Isolation, PartRow, begin, next_level, part_ended, restored
from batchmesh.scheduler.model import MiniBatch

from .drive import RAISED

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Search:
    """One mini-batch whose runs fail when they hold a bad item, and the database that is told of each end first."""

    items: int
    bad: frozenset[int]
    rows: dict[int, PartRow] = field(default_factory=dict)
    #: What has run, as (first, items), in the order of ends.
    ran: list[tuple[int, int]] = field(default_factory=list)

    def begin(self) -> Isolation:
        self.tell(PartRow(0, self.items, level=0, runs=0, tries=3, failed=True))
        return begin(MiniBatch(0, self.items, tries=3))

    def restore(self) -> Isolation:
        return restored(0, self.items, list(self.rows.values()))

    def tell(self, row: PartRow) -> None:
        assert row.first not in self.rows or self.rows[row.first].failed, "a success is never replaced"
        self.rows[row.first] = row

    def run(self, isolation: Isolation, part: MiniBatch) -> None:
        """Runs an open part to its end."""
        self.ran.append((part.first, part.items))
        failed = bool(self.bad & set(range(part.first, part.first + part.items)))
        level, good = isolation.level, 0 if failed else part.items
        assert part.level == level
        self.tell(PartRow(part.first, part.items, level, isolation.runs, part.tries + 1, failed, good, 0, good))
        part.tries += failed
        end = AttemptEnd(1, good, 0, good, failure=RAISED if failed else None)
        part_ended(isolation, part, end)
        if not isolation.open:
            next_level(isolation)

    def finish(self, isolation: Isolation) -> Isolation:
        while isolation.open:
            self.run(isolation, isolation.open[0])
        return isolation

    def failed(self) -> set[int]:
        """Items of parts that failed for good, once the search has ended."""
        return {item for row in self.rows.values() if row.failed for item in range(row.first, row.first + row.items)}


def searched(items: int, bad: Iterable[int]) -> Search:
    search = Search(items, frozenset(bad))
    isolation = search.finish(search.begin())
    assert isolation.failed_items == len(search.failed())
    return search


@st.composite
def inputs(draw: st.DrawFn) -> tuple[int, frozenset[int]]:
    items = draw(st.integers(2, 70))
    bad = draw(st.frozensets(st.integers(0, items - 1), min_size=1, max_size=items))
    return items, bad
