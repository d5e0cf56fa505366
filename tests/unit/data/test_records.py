"""The vectorised scanner finds what a plain state machine finds, whatever blocks it is fed."""

import io
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmesh.data.blocks import blocks
from batchmesh.data.csv_parser import fields_of
from batchmesh.data.cuts import Cutter
from batchmesh.data.places import Cut, Place
from batchmesh.data.records import CsvScanner, LineScanner
from batchmesh.data.size import MiniBatchSize

QUICK = settings(deadline=None, max_examples=400, database=None)
TOKENS = st.sampled_from([b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"a", b'a"', b',"', b"  "])
CSV = st.lists(TOKENS).map(b"".join)
#: Fields as they are in most files, so that parity carries over many words and blocks before something odd comes.
FIELDS = st.sampled_from([b"1,", b'"a,b",', b'"a""b"\n', b"a\n", b'"x\ny"\r\n', b'5" pipe,', b'""\n', b"\n"])
LONG_CSV = st.lists(FIELDS, min_size=20, max_size=120).map(b"".join)
LINES = st.lists(st.sampled_from([b"{", b" ", b"\t", b"\r", b"\n", b"\r\n", b"x\n"])).map(b"".join)


def row_ends(data: bytes) -> tuple[list[int], bool, bool]:
    """The ends of the rows byte by byte, by the rule of pyarrow's lexer; is one open at the end, within quotes?"""
    ends, at, begin, state = [], 0, 0, "start"
    while at < len(data):
        byte = data[at : at + 1]
        if state == "quoted":
            if byte == b'"' and data[at + 1 : at + 2] == b'"':
                at += 1
            elif byte == b'"':
                state = "field"
        elif byte in b"\r\n":
            empty = at == begin
            if data[at : at + 2] == b"\r\n":
                at += 1
            if not empty:
                ends.append(at + 1)
            begin, state = at + 1, "start"
        elif byte == b",":
            state = "start"
        else:
            state = "quoted" if byte == b'"' and state == "start" else "field"
        at += 1
    return ends, begin < len(data), state == "quoted"


def cuts_of(data: bytes, size: MiniBatchSize, block: int, scanner: CsvScanner | LineScanner) -> list[Cut]:
    return list(Cutter(size, scanner, Place(0, 1, 1)).cut(blocks(io.BytesIO(data), block)))


def lines_in(data: bytes) -> int:
    return len(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")) - 1


@QUICK
@given(CSV, st.integers(1, 9))
def test_rows_end_where_the_parser_ends_them(data: bytes, block: int) -> None:
    check_scan(data, block)


@QUICK
@given(LONG_CSV, st.integers(1, 300))
def test_rows_end_there_over_many_words_of_bits(data: bytes, block: int) -> None:
    check_scan(data, block)


def check_scan(data: bytes, block: int) -> None:
    scanner, ends, lines, at = CsvScanner(","), [], 0, 0
    for each in blocks(io.BytesIO(data), block + 1):
        marks = scanner.scan(each)
        ends += [at + int(end) + 1 for end in np.flatnonzero(marks.row_ends)]
        lines += int(marks.line_ends.sum())
        at += len(each)
    assert (ends, scanner.is_open, scanner.inside) == row_ends(data)
    assert lines == lines_in(data)


@QUICK
@given(CSV, st.integers(1, 9), st.integers(1, 12), st.sampled_from(["bytes", "rows"]))
def test_cuts_hold_each_row_once_and_tell_where_they_begin(data: bytes, block: int, amount: int, unit: str) -> None:
    ends, is_open, inside = row_ends(data)
    cuts = cuts_of(data, MiniBatchSize(amount, unit), block + 1, CsvScanner(","))
    assert sum(cut.rows for cut in cuts) == len(ends) + is_open
    assert all(cut.rows > 0 for cut in cuts)
    for cut, following in pairwise(cuts):
        assert cut.end == following.start
        assert cut.end.offset in ends
        assert cut.end.line == 1 + lines_in(data[: cut.end.offset])
        assert cut.rows == amount or unit == "bytes" or following.unterminated
    assert [cut.unterminated for cut in cuts] == [False] * (len(cuts) - 1) + [inside] * bool(cuts)
    if inside:
        assert cuts[-1].rows == 1


@QUICK
@given(LINES, st.integers(1, 9), st.integers(1, 3))
def test_lines_of_white_space_are_no_rows(data: bytes, block: int, amount: int) -> None:
    expected = sum(bool(line.strip()) for line in data.split(b"\n"))
    cuts = cuts_of(data, MiniBatchSize(amount, "rows"), block + 1, LineScanner())
    assert sum(cut.rows for cut in cuts) == expected
    for cut in cuts:
        part = data[cut.start.offset : cut.end.offset]
        assert sum(bool(line.strip()) for line in part.split(b"\n")) == cut.rows
        assert cut.start.line == 1 + data[: cut.start.offset].count(b"\n")


def test_a_cut_begins_as_soon_as_one_is_large_enough() -> None:
    cuts = cuts_of(b"aa\nbb\ncc\n", MiniBatchSize(3, "bytes"), 64, CsvScanner(","))
    assert [(cut.start.offset, cut.end.offset) for cut in cuts] == [(0, 3), (3, 6), (6, 9)]


def test_a_record_gives_its_fields_without_quotes() -> None:
    assert fields_of(b'\n"a,""b",c"d, "e","f"g,\r\n', ",") == [b'a,"b', b'c"d', b' "e"', b"fg", b""]
