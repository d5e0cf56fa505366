"""Splits a table that nodes look into: large ones, and those of remote datastores.

    look ──▶ range, range, … ──asked ahead──▶ nodes ──in order──▶ Fold ──▶ Piece, Piece, …
         └─▶ columns, once ────────────────▶ a node ──────────────────────────┘

Mini-batches of exactly so many rows: rows are counted first, range by range, and cut by a second look, which knows how
many lie before. Blocks: for planning threads.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from batchmesh.data import row_groups
from batchmesh.data.columns import with_given
from batchmesh.data.folding import Fold
from batchmesh.data.pieces import TextFile, piece_of
from batchmesh.data.places import Place
from batchmesh.data.plan_slices import MOST_MARKS, Border, Every, Grid, PlanSlice, TableFile, Wanted
from batchmesh.data.size import even_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from batchmesh.data.plan_slices import Looked, Rule, ScannedSlice, Told
    from batchmesh.data.size import MiniBatchSize
    from batchmesh.data.slices import Piece, SliceFields

#: Plan slices that are asked for before the first of them has been told of.
_AHEAD = 32


class Asked(Protocol):
    """An answer on its way."""

    def result(self) -> Told:
        """Waits for it. Errors: UnreadableFile; what keeps nodes from answering; CancelledError."""

    def done(self) -> bool:
        """Whether there is an answer, or an error."""

    def cancel(self) -> object:
        """Nobody waits for it any more."""


class Ask(Protocol):
    """Asks some node, at once; who asks waits for the answer or does not."""

    def __call__(self, file: TableFile, wanted: Wanted | PlanSlice, /) -> Asked:
        """Errors: CancelledError once it is stopped."""

    def stop(self) -> None:
        """Who waits for an answer gets CancelledError."""


class Split:
    """One file as its nodes see it.

    `types` overrule inferred ones by name; `length` are the bytes of a plan slice; `idle` is called before an answer is
    waited for.
    """

    def __init__(
        self,
        ask: Ask,
        file: TableFile,
        size: MiniBatchSize,
        types: Mapping[str, str],
        length: int,
        idle: Callable[[], object],
    ) -> None:
        self._ask = ask
        self._file = file
        self._size = size
        self._types = types
        self._length = length
        self._idle = idle

    def pieces(self, after: dict[str, int] | None) -> Iterator[Piece]:
        """The slices in order, from `after` (an earlier Piece's) on. Errors: as of Asked."""
        if self._file.kind == "parquet":
            told = self._told(self._ask(self._file, Wanted.ROW_GROUPS))
            assert told.footer is not None
            yield from row_groups.pieces(told.footer, self._fields(told), self._size, after)
            return
        told = self._told(self._ask(self._file, Wanted.LOOK))
        looked = told.looked
        assert looked is not None
        if looked.body is None:
            return
        self._file = replace(self._file, size=told.size, stamp=told.stamp)
        start = looked.body if after is None else Place(**after)
        of_file = TextFile(self._text_fields(told, looked), told.size, looked.zipped)
        yield from self._zipped(of_file, start) if looked.zipped else self._plain(of_file, looked.body, start)

    def _fields(self, told: Told) -> SliceFields:
        """A stamp has what lies in a datastore alone: of other files workers compare the size."""
        return {"file": self._file.path, "size": told.size, **({"stamp": told.stamp} if told.stamp else {})}

    def _text_fields(self, told: Told, looked: Looked) -> SliceFields:
        delimiter = {"delimiter": looked.delimiter} if looked.delimiter else {}
        return {"kind": self._file.kind, **delimiter, **self._fields(told)}

    def _zipped(self, of_file: TextFile, start: Place) -> Iterator[Piece]:
        told = self._told(self._ask(self._file, Wanted.CUTS))
        for cut in told.cuts:
            if cut.start.offset >= start.offset:
                yield piece_of(cut, with_given(told.columns, self._types), of_file)

    def _plain(self, of_file: TextFile, body: Place, start: Place) -> Iterator[Piece]:
        asked = self._ask(self._file, Wanted.COLUMNS)
        try:
            fold = Fold(self._rule(body, of_file.size), start)
            columns = None
            for cuts in chain(map(fold.take, self._scanned(fold, of_file.size)), [fold.end()]):
                for cut in cuts:
                    columns = columns or with_given(self._told(asked).columns, self._types)
                    yield piece_of(cut, columns, of_file)
        finally:
            asked.cancel()

    def _rule(self, body: Place, end: int) -> Grid | Every:
        if self._size.unit == "rows":
            return Every(self._size.amount)
        return Grid(body.offset, even_size(self._size, end - body.offset).amount)

    def _scanned(self, fold: Fold, end: int) -> Iterator[ScannedSlice]:
        rule, start = fold.rule, fold.here
        length = min(self._length, self._size.amount * MOST_MARKS)
        if not isinstance(rule, Every):
            return self._in_order(_ranges(start.offset, end, length, rule))
        counted = self._in_order(_ranges(start.offset, end, length, None))
        return self._in_order(_with_rows_before(counted, start, rule))

    def _in_order(self, wanted: Iterable[PlanSlice]) -> Iterator[ScannedSlice]:
        """What is told of them, asked for ahead."""
        out: deque[Asked] = deque()
        try:
            for each in wanted:
                out.append(self._ask(self._file, each))
                while out and (len(out) >= _AHEAD or out[0].done()):
                    yield self._scanned_in(out.popleft())
            while out:
                yield self._scanned_in(out.popleft())
        finally:
            for each_out in out:
                each_out.cancel()

    def _scanned_in(self, asked: Asked) -> ScannedSlice:
        scanned = self._told(asked).scanned
        assert scanned is not None
        return scanned

    def _told(self, asked: Asked) -> Told:
        if not asked.done():
            self._idle()
        return asked.result()


def _ranges(start: int, end: int, length: int, rule: Rule) -> Iterator[PlanSlice]:
    """All bytes from `start`, where a record begins, to `end`."""
    for offset in range(start, end, length):
        border = Border.RECORD if offset == start else None
        yield PlanSlice(offset, min(offset + length, end), border, rule)


def _with_rows_before(counted: Iterable[ScannedSlice], start: Place, rule: Every) -> Iterator[PlanSlice]:
    """The same ranges, now that it is known how each begins."""
    fold = Fold(None, start)
    for each in counted:
        have = (fold.here.row - start.row) % rule.rows
        yield PlanSlice(each.start, each.end, fold.border, rule._replace(have=have))
        fold.take(each)
