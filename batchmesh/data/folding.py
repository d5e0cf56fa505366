"""Joins what is told of a text table's plan slices into the mini-batches of the file.

    ScannedSlice, ScannedSlice, … ──in order: the branch that begins as the one before ended──▶ Cut, Cut, …

Pure: which node has scanned a plan slice, when, and how long it is makes no difference to the cuts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.data.places import Cut, Place
from batchmesh.data.plan_slices import Border

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.data.plan_slices import Branch, Rule, ScannedSlice


class Fold:
    """Begins where a record begins, at `start`. The cuts hold at least one row each and all of them together."""

    def __init__(self, rule: Rule, start: Place) -> None:
        self.rule = rule
        self._start = self._last_end = start
        self.here = start
        self.border = Border.RECORD
        self._is_open = False

    def take(self, scanned: ScannedSlice) -> list[Cut]:
        """The cuts that end in the next plan slice."""
        branch, cuts = self._branch(scanned), []
        line, row = self.here.line, self.here.row
        for mark in branch.marks:
            self._last_end = Place(mark.offset, line + mark.lines, row + mark.rows)
            if self.rule is not None and self.rule.ends(self._start, self._last_end):
                cuts.append(Cut(self._start, self._last_end))
                self._start = self._last_end
        self.here = Place(scanned.end, line + scanned.lines, row + branch.rows)
        self.border, self._is_open = branch.end, branch.is_open
        return cuts

    def end(self) -> Iterator[Cut]:
        """What is left when the file has ended; a quoted field that never ends is a cut of its own."""
        inside = self.border is Border.QUOTED
        if inside and self._last_end.row > self._start.row:
            yield Cut(self._start, self._last_end)
            self._start = self._last_end
        end = self.here._replace(row=self.here.row + self._is_open)
        if end.row > self._start.row:
            yield Cut(self._start, end, unterminated=inside)

    def _branch(self, scanned: ScannedSlice) -> Branch:
        if scanned.start != self.here.offset:
            raise ValueError(f"a plan slice begins at byte {scanned.start}, the one before ends at {self.here.offset}")
        for each in scanned.branches:
            if self.border in each.starts:
                return each
        raise ValueError(f"nothing is told of a plan slice that begins with {self.border.name} at {scanned.start}")
