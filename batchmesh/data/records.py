"""Where records end in a text table, at memory speed and in bounded memory.

    block ──▶ line ends ──(those inside quotes taken out)──▶ closed ends ──(empty lines taken out)──▶ row ends

The rule for quotes is that of pyarrow's parser: a quote opens only as the first byte of a field; inside, a doubled one
is text and any other closes; behind the closing one the field goes on unquoted. LF, CR LF and a lone CR end lines.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_TAB, _LF, _CR, _SPACE, _QUOTE = 9, 10, 13, 32, 34
_TEXT = 0  # stands for a byte before a block that nothing can open behind


class Marks(NamedTuple):
    """One flag a byte of the block: a line ends with this byte; a record that is not empty ends with it."""

    line_ends: Mask
    row_ends: Mask


class CsvScanner:
    """Fed the blocks of a file in order (only the last may end with CR). `inside`: the first byte is quoted text."""

    #: What may stand before a record without being part of it.
    blank = b"\r\n"

    def __init__(self, delimiter: str, inside: bool = False) -> None:
        self.inside = inside
        self._at_start = not inside
        self._before = _TEXT if inside else _LF
        self._may_open_behind = np.zeros(256, np.bool_)
        self._may_open_behind[[ord(delimiter), _LF, _CR, _QUOTE]] = True

    @property
    def is_open(self) -> bool:
        """Whether the bytes so far end within a record; at the end of the file that is one more row."""
        return not self._at_start

    def scan(self, block: Bytes) -> Marks:
        """Both masks are as long as the block."""
        line_ends, returns = _line_ends(block)
        closed = self._outside_quotes(block, line_ends)
        row_ends = self._without_empty(block, closed, returns)
        self._at_start = bool(closed[-1])
        return Marks(line_ends, row_ends)

    def _outside_quotes(self, block: Bytes, line_ends: Mask) -> Mask:
        is_quote = block == _QUOTE
        quotes = np.flatnonzero(is_quote)
        if not len(quotes):
            self._before = int(block[-1])
            return np.zeros_like(line_ends) if self.inside else line_ends
        if not self._all_toggle(block, quotes):
            quotes = self._toggles(block, quotes)
            is_quote = np.zeros_like(is_quote)
            is_quote[quotes] = True
        self._before = int(block[-1])
        if self._before == _QUOTE and not is_quote[-1]:
            self._before = _TEXT
        # One running exclusive-or over the toggles: 1 inside quotes, and wherever a line could not end anyway.
        inside = np.bitwise_xor.accumulate(is_quote.view(np.uint8)).view(np.bool_)
        closed = line_ends & inside if self.inside else line_ends > inside
        self.inside ^= bool(len(quotes) & 1)
        return closed

    def _all_toggle(self, block: Bytes, quotes: npt.NDArray[np.intp]) -> bool:
        """Whether each quote opens or closes: then parity alone tells what is inside. True of nearly all files."""
        openers = quotes[int(self.inside) :: 2]
        before = block[openers - 1]
        if len(openers) and openers[0] == 0:
            before[0] = self._before
        return bool(self._may_open_behind[before].all())

    def _toggles(self, block: Bytes, quotes: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """The quotes that open or close, one by one: some are plain text within an unquoted field."""
        inside, toggles, last = self.inside, [], -1 if self._before == _QUOTE else -2
        before = block[quotes - 1]
        if quotes[0] == 0:
            before[0] = self._before
        may_open = self._may_open_behind[before] & (before != _QUOTE)
        for at, opens in zip(quotes.tolist(), may_open.tolist()):  # noqa: B905  (CPython 3.9)
            if inside or opens or last == at - 1:
                toggles.append(at)
                inside, last = not inside, at
        return np.array(toggles, np.intp)

    def _without_empty(self, block: Bytes, closed: Mask, returns: Mask | None) -> Mask:
        row_ends = np.empty_like(closed)
        row_ends[0] = closed[0] and not self._at_start
        np.greater(closed[1:], closed[:-1], out=row_ends[1:])
        if returns is not None:
            # The CR of a CR LF directly behind an end: its LF closes an empty line.
            empty = closed[:-2] & returns[1:-1]
            row_ends[2:] &= ~empty
            if len(block) > 1 and self._at_start and returns[0]:
                row_ends[1] = False
        return row_ends


class LineScanner:
    """The same for JSON lines: LF alone ends a line, and a line of nothing but white space is empty."""

    inside = False
    blank = b" \t\r\n"

    def __init__(self) -> None:
        self._has_text = False

    @property
    def is_open(self) -> bool:
        return self._has_text

    def scan(self, block: Bytes) -> Marks:
        line_ends = block == _LF
        ends = np.flatnonzero(line_ends)
        if not len(ends):
            self._has_text = self._has_text or not _is_blank(block)
            return Marks(line_ends, line_ends)
        row_ends = line_ends
        before = block[ends - 1]
        if ends[0] == 0 or (before <= _SPACE).any():
            row_ends = self._without_blank(block, line_ends, ends)
        self._has_text = not _is_blank(block[ends[-1] + 1 :])
        return Marks(line_ends, row_ends)

    def _without_blank(self, block: Bytes, line_ends: Mask, ends: npt.NDArray[np.intp]) -> Mask:
        block = block[: ends[-1] + 1]
        text = (block > _SPACE) | ((block != _SPACE) & (block != _TAB) & (block != _LF) & (block != _CR))
        starts = np.concatenate(([0], ends[:-1] + 1))
        has_text = np.logical_or.reduceat(text, starts)
        has_text[0] |= self._has_text
        row_ends = line_ends.copy()
        row_ends[ends] = has_text
        return row_ends


def _line_ends(block: Bytes) -> tuple[Mask, Mask | None]:
    """The last byte of each line end, and the CRs that have an LF behind them (None if there is no CR)."""
    feeds = block == _LF
    returns = block == _CR
    if not returns.any():
        return feeds, None
    paired = np.zeros_like(returns)
    np.logical_and(returns[:-1], feeds[1:], out=paired[:-1])
    return feeds | (returns > paired), paired


def _is_blank(block: Bytes) -> bool:
    return not block.tobytes().strip(b" \t\r\n")
