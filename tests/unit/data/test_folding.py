"""Plan slices, scanned one by one for each state they may begin in, fold into what one look at the whole file tells."""

import io
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmesh.data.blocks import blocks
from batchmesh.data.cuts import Cutter
from batchmesh.data.folding import Fold
from batchmesh.data.places import Cut, Place
from batchmesh.data.plan_slices import Border, Every, Grid, PlanSlice, Rule, ScannedSlice
from batchmesh.data.records import CsvScanner, LineScanner
from batchmesh.data.scanning import scan
from batchmesh.data.size import MiniBatchSize
from batchmesh.data.sources import Source

QUICK = settings(deadline=None, max_examples=600, database=None)
CSV = st.lists(
    st.sampled_from(
        [b'"', b'""', b'"""', b",", b"\n", b"\r", b"\r\n", b"a", b'a"', b',"', b'",', b"  ", b'x,"a\r\nb"\n']
    )
).map(b"".join)
LINES = st.lists(st.sampled_from([b"{", b" ", b"\t", b"\r", b"\n", b"\r\n", b"x\n", b"  \n", b'"'])).map(b"".join)
KINDS = st.one_of(st.tuples(CSV, st.just(",")), st.tuples(LINES, st.just("")))
BLOCKS = st.integers(2, 9)
START = Place(0, 1, 1)


def source_of(data: bytes) -> Source:
    return Source("table", lambda: io.BytesIO(data))


def ranges(data: bytes, length: int, start: int = 0) -> list[tuple[int, int]]:
    edges = [*range(start, len(data), length), len(data)]
    return list(pairwise(edges))


def scanned(data: bytes, delimiter: str, length: int, block: int, rule: Rule, start: int = 0) -> list[ScannedSlice]:
    """All plan slices of that many bytes; only the first knows how it begins."""
    found = []
    for begin, end in ranges(data, length, start):
        border = Border.RECORD if begin == start else None
        found.append(scan(source_of(data), PlanSlice(begin, end, border, rule), delimiter, block))
    return found


def folded(slices: list[ScannedSlice], rule: Rule, start: Place = START) -> list[Cut]:
    fold, cuts = Fold(rule, start), []
    for each in slices:
        cuts += fold.take(each)
    return [*cuts, *fold.end()]


def sequential(data: bytes, delimiter: str) -> dict[int, Place]:
    """Each place that a row ends, as one scanner finds it that goes over the whole file."""
    scanner = CsvScanner(delimiter) if delimiter else LineScanner()
    cuts = Cutter(MiniBatchSize(1, "rows"), scanner, START).cut(blocks(io.BytesIO(data)))
    return {cut.end.offset: cut.end for cut in cuts}


def by_rows(data: bytes, delimiter: str, amount: int) -> list[Cut]:
    scanner = CsvScanner(delimiter) if delimiter else LineScanner()
    return list(Cutter(MiniBatchSize(amount, "rows"), scanner, START).cut(blocks(io.BytesIO(data))))


@QUICK
@given(KINDS, st.integers(1, 20), BLOCKS, st.integers(1, 25))
def test_cuts_lie_at_row_ends_with_the_lines_and_rows_of_one_scan(
    table: tuple[bytes, str], length: int, block: int, step: int
) -> None:
    data, delimiter = table
    cuts = folded(scanned(data, delimiter, length, block, Grid(0, step)), Grid(0, step))
    ends = sequential(data, delimiter)
    assert all(cut.rows > 0 for cut in cuts)
    assert sum(cut.rows for cut in cuts) == len(ends)
    assert [each.start for each in cuts] == [START, *(each.end for each in cuts[:-1])][: len(cuts)]
    for cut in cuts:
        assert cut.end == ends.get(cut.end.offset) or cut == cuts[-1]
    assert [cut.unterminated for cut in cuts] == [False] * (len(cuts) - 1) + [
        quoted_to_the_end(data, delimiter)
    ] * bool(cuts)


def quoted_to_the_end(data: bytes, delimiter: str) -> bool:
    scanner = CsvScanner(delimiter) if delimiter else LineScanner()
    for each in blocks(io.BytesIO(data)):
        scanner.scan(each)
    return scanner.inside


@QUICK
@given(KINDS, st.integers(1, 25))
def test_a_mini_batch_ends_with_the_first_row_that_reaches_the_next_step(table: tuple[bytes, str], step: int) -> None:
    data, delimiter = table
    cuts = folded(scanned(data, delimiter, max(1, len(data)), 9, Grid(0, step)), Grid(0, step))
    ends = sorted(sequential(data, delimiter))
    wanted = {next((end for end in ends if end >= at), None) for at in range(step, len(data) + 1, step)}
    closed = ends[:-1] if cuts and cuts[-1].unterminated else ends
    expected = [end for end in closed if end in wanted]
    assert [cut.end.offset for cut in cuts][: len(expected)] == expected
    assert len(cuts) <= len(expected) + 2  # what is left, and a quoted field that never ends


@QUICK
@given(KINDS, st.integers(1, 20), st.integers(1, 20), BLOCKS, BLOCKS, st.integers(1, 25))
def test_how_long_plan_slices_and_blocks_are_makes_no_difference(
    table: tuple[bytes, str], one: int, other: int, block: int, larger: int, step: int
) -> None:
    data, delimiter = table
    rule = Grid(0, step)
    assert folded(scanned(data, delimiter, one, block, rule), rule) == folded(
        scanned(data, delimiter, other, larger, rule), rule
    )


@QUICK
@given(KINDS, st.integers(1, 20), BLOCKS, st.integers(1, 6))
def test_rows_are_counted_first_and_cut_then_just_as_one_scan_cuts_them(
    table: tuple[bytes, str], length: int, block: int, amount: int
) -> None:
    data, delimiter = table
    counts, cutting, cuts = Fold(None, START), Fold(Every(amount), START), []
    for each in scanned(data, delimiter, length, block, None):
        rule = Every(amount, (counts.here.row - 1) % amount)
        wanted = PlanSlice(each.start, each.end, counts.border, rule)
        again = scan(source_of(data), wanted, delimiter, block)
        assert (again.start, again.end, again.lines) == (each.start, each.end, each.lines)
        cuts += cutting.take(again)
        counts.take(each)
    assert [*cuts, *cutting.end()] == by_rows(data, delimiter, amount)


@QUICK
@given(KINDS, st.integers(1, 20), BLOCKS, st.integers(1, 25), st.sampled_from(["grid", "rows"]))
def test_folding_goes_on_behind_any_cut(
    table: tuple[bytes, str], length: int, block: int, step: int, unit: str
) -> None:
    data, delimiter = table
    rule = Grid(0, step) if unit == "grid" else Every(step)
    whole = folded(scanned(data, delimiter, max(1, len(data)), block, rule), rule)
    for index, cut in enumerate(whole[:-1]):
        if unit == "grid":
            rest = scanned(data, delimiter, length, block, rule, cut.end.offset)
        else:
            rest = scanned(data, delimiter, len(data), block, rule, cut.end.offset)
        assert folded(rest, rule, cut.end) == whole[index + 1 :]


def test_slices_that_do_not_follow_one_another_are_refused() -> None:
    slices = scanned(b"a\nb\nc\n", ",", 2, 9, None)
    fold = Fold(None, START)
    fold.take(slices[0])
    with pytest.raises(ValueError, match="begins at byte 4, the one before ends at 2"):
        fold.take(slices[2])


def test_a_slice_of_which_the_state_is_not_told_is_refused() -> None:
    fold = Fold(None, START)
    fold.take(scanned(b'a,"b\n', ",", 9, 9, None)[0])
    follows = scan(source_of(b'a,"b\nc"\n'), PlanSlice(5, 8, Border.FIELD, None), ",")
    with pytest.raises(ValueError, match="nothing is told of a plan slice that begins with QUOTED at 5"):
        fold.take(follows)


def test_a_file_that_has_become_shorter_is_told() -> None:
    with pytest.raises(EOFError, match="shorter"):
        scan(source_of(b"a\nb\n"), PlanSlice(2, 9, None, None), ",")


def test_of_data_without_quotes_the_state_within_quotes_holds_no_row() -> None:
    found = scan(source_of(b"a,b\n" * 100), PlanSlice(6, 400, None, Grid(0, 40)), ",", 16)
    outside, inside = found.branches
    assert outside.starts == (Border.FIELD, Border.LITERAL)
    assert (outside.rows, outside.end) == (99, Border.FIELD)
    assert (inside.rows, inside.marks, inside.end) == (0, [], Border.QUOTED)
    assert found.lines == 99
