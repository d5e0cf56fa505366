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
#: A mask at one bit a byte, the first one lowest, in words: what runs along a whole block is cheap there.
Bits = npt.NDArray[np.uint64]

_TAB, _LF, _CR, _SPACE, _QUOTE = 9, 10, 13, 32, 34
_LAST = np.uint64(63)  # the last bit of a word


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
        self._delimiter = ord(delimiter)
        self._opens_next = not inside  # a quote that is the next byte

    @property
    def is_open(self) -> bool:
        """Whether the bytes so far end within a record; at the end of the file that is one more row."""
        return not self._at_start

    def scan(self, block: Bytes) -> Marks:
        """Both masks are as long as the block."""
        text = block.tobytes()  # tells at the speed of memory that a block has no CR or no quote
        line_ends, returns = _line_ends(block, b"\r" in text)
        closed = line_ends
        if b'"' in text:
            closed = self._outside_quotes(block, line_ends)
        elif self.inside:
            closed = np.zeros_like(line_ends)
        if text[-1] != _QUOTE:
            self._opens_next = text[-1] in (self._delimiter, _LF, _CR)
        row_ends = self._without_empty(block, closed, returns)
        self._at_start = bool(closed[-1])
        return Marks(line_ends, row_ends)

    def _outside_quotes(self, block: Bytes, line_ends: Mask) -> Mask:
        """Parity alone tells what is inside where each quote opens or closes. It does in nearly all files."""
        quotes = block == _QUOTE
        opens_behind = line_ends | (block == self._delimiter)
        toggles = _packed(quotes)
        inside = _running_parity(toggles, self.inside)
        if (toggles & inside & ~_moved_on(_packed(opens_behind | quotes), self._opens_next)).any():
            inside = self._by_runs(quotes, opens_behind)
        elif quotes[-1]:
            self._opens_next = True
        self.inside = bool(inside[-1] >> _LAST)
        return line_ends > np.unpackbits(inside.view(np.uint8), count=len(block), bitorder="little").view(np.bool_)

    def _by_runs(self, quotes: Mask, opens_behind: Mask) -> Bits:
        """What is inside, if some quotes are plain text within an unquoted field.

        Quotes in a row open and close by turns, so that an odd number of them changes sides; where the first cannot
        open, all are plain text outside, and an odd number closes inside: it is outside behind them in any case.
        """
        at = np.flatnonzero(quotes)
        first = np.flatnonzero(np.diff(at, prepend=-2) != 1)
        starts = at[first]
        opens = opens_behind[starts - 1]
        if starts[0] == 0:
            opens[0] = self._opens_next
        is_odd = (np.diff(first, append=len(at)) & 1).astype(np.bool_)
        flips = np.logical_xor.accumulate(is_odd & opens)
        last_reset = np.maximum.accumulate(np.where(is_odd & ~opens, np.arange(len(starts)), -1))
        inside_behind = flips ^ np.where(last_reset < 0, self.inside, flips[last_reset])
        inside_before = np.concatenate(([self.inside], inside_behind[:-1]))
        if quotes[-1]:
            self._opens_next = bool(inside_before[-1] | opens[-1])
        toggles = np.zeros_like(quotes)
        toggles[starts[inside_behind != inside_before]] = True
        return _running_parity(_packed(toggles), self.inside)

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


def _line_ends(block: Bytes, has_returns: bool) -> tuple[Mask, Mask | None]:
    """The last byte of each line end, and the CRs that have an LF behind them (None if there is no CR)."""
    feeds = block == _LF
    if not has_returns:
        return feeds, None
    returns = block == _CR
    paired = np.zeros_like(returns)
    np.logical_and(returns[:-1], feeds[1:], out=paired[:-1])
    return feeds | (returns > paired), paired


def _packed(mask: Mask) -> Bits:
    """What is missing of the last word is zero."""
    packed = np.packbits(mask, bitorder="little")
    if len(packed) % 8:
        packed = np.concatenate((packed, np.zeros(-len(packed) % 8, np.uint8)))
    return packed.view("<u8")


def _running_parity(bits: Bits, carry: bool) -> Bits:
    """Each bit the exclusive-or of all up to it, and of `carry`."""
    parity = bits.copy()
    for distance in (1, 2, 4, 8, 16, 32):
        parity ^= parity << np.uint64(distance)
    is_odd = np.bitwise_xor.accumulate(parity >> _LAST)
    parity[1:] ^= np.negative(is_odd[:-1])  # all ones if it is
    return ~parity if carry else parity


def _moved_on(bits: Bits, carry: bool) -> Bits:
    """Each bit in the place of the next one, and `carry` in that of the first."""
    moved = bits << np.uint64(1)
    moved[1:] |= bits[:-1] >> _LAST
    moved[0] |= np.uint64(carry)
    return moved


def _is_blank(block: Bytes) -> bool:
    return not block.tobytes().strip(b" \t\r\n")
