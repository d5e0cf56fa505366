"""Scans a plan slice: a part of a text table, before which nobody has looked.

    bytes ──blocks──▶ one scanner for each state that it may begin in ──row ends──▶ marks, for each state
                          └── two that come to the same state go on as one: quotes tell soon which side they are on

Of data without quotes the scanner that began inside of some has nothing to do; so all states cost little more than one.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple, Union

import numpy as np

from batchmesh.data.blocks import BLOCK, blocks
from batchmesh.data.plan_slices import Border, Branch, Every, Grid, Mark, PlanSlice, Rule, ScannedSlice
from batchmesh.data.records import CsvScanner, LineScanner

if TYPE_CHECKING:
    from typing import BinaryIO

    import numpy.typing as npt

    from batchmesh.data.records import Bytes, Mask
    from batchmesh.data.sources import Source

_LF, _CR, _QUOTE = b"\n", b"\r", b'"'
_Scanner = Union[CsvScanner, LineScanner]  # noqa: UP007  (CPython 3.9)


def scan(source: Source, wanted: PlanSlice, delimiter: str, block: int = BLOCK) -> ScannedSlice:
    """The plan slice of a text table, of JSON lines if `delimiter` is "". Holds one block of that many bytes.

    Errors: OSError; EOFError if the file ends before the plan slice does.
    """
    with source.open() as file:
        part = _Part(file, wanted.start, wanted.end, parted=wanted.border is not Border.RECORD)
        paths = _paths(wanted, delimiter, part.before)
        begin, lines = part.start, 0
        at = begin
        for each in blocks(part, max(2, block)):  # type: ignore[arg-type]
            lines += _scan_block(paths, _Block(each, at, lines))
            at += len(each)
        part.check_whole()
    return ScannedSlice(begin, at, lines, [path.branch(part.last) for path in paths])


class _Part:
    """A file as `blocks` reads it, from `start` to `end`; an LF goes with the CR before it.

    `before` is the byte before it, `last` the last one that was read, b"" where there is none. A part that begins where
    a record does is not `parted` from anything.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, parted: bool) -> None:
        self._file, self._left = file, end - start
        self.start, self.before, self._ahead = start, b"", b""
        file.seek(start - 1 if parted and start else start)
        if parted and start:
            self.before = file.read(1)
            if self.before == _CR and self._left:
                self._take_ahead()
        self.last = self.before

    def _take_ahead(self) -> None:
        """The first byte, unless it belongs to the CR before."""
        first = self._file.read(1)
        self._left -= len(first)
        if first == _LF:
            self.before, self.start = first, self.start + 1
        else:
            self._ahead = first

    def readinto(self, view: memoryview) -> int:
        """As of a file."""
        count = len(self._ahead)
        if count:
            view[:1], self._ahead = self._ahead, b""
        elif self._left:
            count = self._file.readinto(view[: self._left])  # type: ignore[attr-defined]
            self._left -= count
        elif self.last == _CR and self._file.read(1) == _LF:
            view[:1], count = _LF, 1
        if count:
            self.last = bytes(view[count - 1 : count])
        return count

    def check_whole(self) -> None:
        """Errors: EOFError if the file has ended before the part did."""
        if self._left:
            raise EOFError("it has become shorter")


class _Block(NamedTuple):
    """`start` is its first byte in the file, `lines` are the line ends of the plan slice before it."""

    data: Bytes
    start: int
    lines: int


def _scan_block(paths: list[_Path], block: _Block) -> int:
    """The line ends in the block, which all paths share."""
    scanners = list({id(path.scanner): path.scanner for path in paths}.values())
    if _QUOTE not in block.data.tobytes():
        scanners = [each for each in scanners if not each.inside] or scanners[:1]
    found = {id(each): each.scan(block.data) for each in scanners}
    line_ends = next(iter(found.values())).line_ends
    for path in paths:
        if id(path.scanner) in found:
            path.take(block, line_ends, found[id(path.scanner)].row_ends)
    _join(paths, block)
    return int(np.count_nonzero(line_ends))


def _join(paths: list[_Path], block: _Block) -> None:
    """Scanners in the same state are one from now on. Behind a quote their states may differ in what comes next."""
    if int(block.data[-1]) == ord(_QUOTE):
        return
    found: dict[tuple[bool, bool], _Scanner] = {}
    for path in paths:
        path.scanner = found.setdefault((path.scanner.inside, path.scanner.is_open), path.scanner)


class _Path:
    """What the plan slice is if it begins in one of `starts`."""

    def __init__(self, starts: tuple[Border, ...], scanner: _Scanner, wanted: PlanSlice) -> None:
        self._starts = starts
        self.scanner = scanner
        self._rule: Rule = wanted.rule
        self._rows = 0
        self._marks: list[Mark] = []
        self._last: Mark | None = None
        #: The latest row end, or where the plan slice begins.
        self._end = wanted.start

    def take(self, block: _Block, line_ends: Mask, row_ends: Mask) -> None:
        if self._is_quiet(block):
            last = row_ends.tobytes().rfind(1)
            if last >= 0:
                self._name_last(block, line_ends, last + 1, int(np.count_nonzero(row_ends)))
            return
        ends = np.flatnonzero(row_ends) + 1
        if not len(ends):
            return
        kept = self._kept(ends + block.start)
        if not self._marks:
            kept[0] = True
        at = np.flatnonzero(kept)
        lines = _counts(line_ends, ends[at])
        places = (block.start + ends[at]).tolist(), (block.lines + lines).tolist(), (self._rows + at + 1).tolist()
        self._marks += map(Mark, *places)
        self._name_last(block, line_ends, int(ends[-1]), len(ends))

    def _is_quiet(self, block: _Block) -> bool:
        """Whether no row end in it is to be named but the last one."""
        if not self._marks:
            return False
        rule, behind = self._rule, block.start + len(block.data)
        if isinstance(rule, Grid):
            return (behind - rule.origin) // rule.step == (self._end - rule.origin) // rule.step
        if isinstance(rule, Every):
            return (rule.have + self._rows) % rule.rows + len(block.data) < rule.rows
        return True

    def _kept(self, ends: npt.NDArray[np.intp]) -> Mask:
        """Which of these row ends of the file end a mini-batch by the rule."""
        if isinstance(self._rule, Grid):
            steps = (ends - self._rule.origin) // self._rule.step
            before = (self._end - self._rule.origin) // self._rule.step
            return np.asarray(np.diff(steps, prepend=before) > 0)
        if isinstance(self._rule, Every):
            numbers = np.arange(1, len(ends) + 1) + (self._rule.have + self._rows)
            return np.asarray(numbers % self._rule.rows == 0)
        return np.zeros(len(ends), np.bool_)

    def _name_last(self, block: _Block, line_ends: Mask, end: int, rows: int) -> None:
        self._rows += rows
        self._end = block.start + end
        self._last = Mark(self._end, block.lines + int(np.count_nonzero(line_ends[:end])), self._rows)

    def branch(self, last: bytes) -> Branch:
        """`last` is the last byte of the plan slice."""
        marks = self._marks
        if self._last is not None and self._last.offset > marks[-1].offset:
            marks = [*marks, self._last]
        return Branch(self._starts, _border(self.scanner, last), self.scanner.is_open, self._rows, marks)


def _counts(flags: Mask, ends: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """How many are set before each of `ends`."""
    return np.searchsorted(np.flatnonzero(flags), ends)


def _paths(wanted: PlanSlice, delimiter: str, before: bytes) -> list[_Path]:
    borders: list[tuple[Border, ...]]
    if wanted.border is not None:
        borders = [(wanted.border,)]
    elif not delimiter:
        borders = [(Border.RECORD,), (Border.TEXT,)]
    elif before == _QUOTE:
        borders = [(Border.FIELD,), (Border.LITERAL,), (Border.QUOTED,)]
    else:
        borders = [(Border.FIELD, Border.LITERAL), (Border.QUOTED,)]
    return [_Path(each, _scanner(each[0], delimiter, before), wanted) for each in borders]


def _scanner(border: Border, delimiter: str, before: bytes) -> _Scanner:
    """One that is in that state, behind that byte: it is shown bytes that lead there."""
    if not delimiter:
        return _led(LineScanner(), b"x" if border is Border.TEXT else b"")
    if border is Border.QUOTED:
        return CsvScanner(delimiter, inside=True)
    if border is Border.LITERAL:
        return _led(CsvScanner(delimiter), b'x"')
    if border is Border.FIELD:
        return _led(CsvScanner(delimiter), b'""' if before == _QUOTE else before)
    return CsvScanner(delimiter)


def _led(scanner: _Scanner, shown: bytes) -> _Scanner:
    if shown:
        scanner.scan(np.frombuffer(shown, np.uint8))
    return scanner


def _border(scanner: _Scanner, last: bytes) -> Border:
    if isinstance(scanner, LineScanner):
        return Border.TEXT if scanner.is_open else Border.RECORD
    if scanner.inside:
        return Border.QUOTED
    if last != _QUOTE:
        return Border.FIELD
    tried = copy.copy(scanner)
    tried.scan(np.frombuffer(_QUOTE, np.uint8))
    return Border.FIELD if tried.inside else Border.LITERAL
