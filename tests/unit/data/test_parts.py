"""Parts of a mini-batch: whatever the halves are, together they are the whole, and each item is in one of them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmesh.data import csv, files, jsonl, parquet
from batchmesh.data.listing import Run
from batchmesh.data.reading import read_slice
from batchmesh.data.size import MiniBatchSize
from batchmesh.data.slices import SliceFields, UnreadableSlice, decode_slice, encode_slice, part_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchmesh.data.slices import Batch

ROWS = MiniBatchSize(9, "rows")
#: Of the nine rows of each slice the 2nd, 5th and 6th cannot be read.
BAD = (1, 4, 5)


def csv_slice(folder: Path) -> SliceFields:
    rows = [f"{at},t" if at - 9 not in BAD else "x,t" for at in range(18)]
    path = folder / "t.csv"
    path.write_text("n,text\n\n" + "\n".join(rows) + "\n")
    return list(csv.split(str(path), ROWS, csv.CsvOptions(types={"n": "int64"})))[1].fields


def jsonl_slice(folder: Path) -> SliceFields:
    rows = [f'{{"n":{at}}}' if at - 9 not in BAD else "{" for at in range(18)]
    path = folder / "t.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return list(jsonl.split(str(path), ROWS, {"n": "int64"}))[1].fields


def parquet_slice(folder: Path) -> SliceFields:
    path = folder / "t.parquet"
    pq.write_table(pa.table({"n": range(18), "text": ["t"] * 18}), path, row_group_size=4)
    return list(parquet.split(str(path), ROWS))[1].fields


TABLES = pytest.mark.parametrize("plan", [csv_slice, jsonl_slice, parquet_slice])


def read(fields: SliceFields) -> Batch:
    return read_slice(decode_slice(encode_slice(fields)))


def part(fields: SliceFields, first: int, end: int) -> Batch:
    return read(part_of(fields, first, end - first))


@TABLES
@pytest.mark.parametrize("cuts", [(0, 9), (0, 5, 9), (0, 3, 6, 7, 9), tuple(range(10))])
def test_the_parts_of_a_table_hold_each_row_once_and_name_each_bad_one_once(
    tmp_path: Path, plan: Callable[[Path], SliceFields], cuts: tuple[int, ...]
) -> None:
    fields = plan(tmp_path)
    whole = read(fields)
    parts = [part(fields, first, end) for first, end in pairwise(cuts)]
    assert [len(each.items) + len(each.failures) for each in parts] == [end - first for first, end in pairwise(cuts)]
    pd.testing.assert_frame_equal(pd.concat([each.items for each in parts], ignore_index=True), whole.items)
    assert [failure for each in parts for failure in each.failures] == whole.failures
    for each in parts:
        assert list(each.items.index) == list(range(len(each.items)))
        assert list(each.items.dtypes) == list(whole.items.dtypes)


def test_a_bad_row_of_a_part_keeps_its_line_and_its_row_of_the_file(tmp_path: Path) -> None:
    found = part(csv_slice(tmp_path), 7, 9)
    assert [(each.line, each.row, each.column) for each in found.failures] == [(16, 14, "n"), (17, 15, "n")]
    assert len(found.items) == 0


@TABLES
def test_a_lone_row_is_named_by_its_file_and_its_number_in_it(
    tmp_path: Path, plan: Callable[[Path], SliceFields]
) -> None:
    fields = plan(tmp_path)
    whole = read(fields).items["n"].tolist()
    for at, value in enumerate(whole):
        found = part(fields, at, at + 1)
        assert found.items["n"].tolist() == [value]
        assert found.lone == f"row {int(value) + 1} of {fields['file']}"
    assert part(fields, 0, 2).lone == read(fields).lone == ""


def test_a_part_may_be_changed_in_place_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    found = part(parquet_slice(tmp_path), 2, 5)
    found.items["n"] = found.items["n"] * 2
    found.items.loc[0, "text"] = "other"
    assert found.items["n"].tolist() == [22, 24, 26]
    assert not recwarn.list
    assert part(parquet_slice(tmp_path), 2, 3).items["text"].tolist() == ["t"]


def test_a_part_of_files_is_a_shorter_list_of_paths() -> None:
    (piece,) = files.split([Run("/", ["a", "b\udcff", "c", "d"])], 4)
    fields = decode_slice(encode_slice(piece.fields))
    found = part_of(fields, 1, 2)
    assert found == {"kind": "files", "files": ["/b\udcff", "/c"]}
    assert read(found).items == ["/b\udcff", "/c"]
    assert part(fields, 1, 2).lone == "/b\\udcff"
    assert fields["files"] == ["/a", "/b\udcff", "/c", "/d"]


@TABLES
@pytest.mark.parametrize("change", ["grown", "gone"])
def test_a_table_that_has_changed_since_it_was_planned_fails_by_name(
    tmp_path: Path, plan: Callable[[Path], SliceFields], change: str
) -> None:
    fields: dict[str, Any] = plan(tmp_path)
    path = tmp_path / fields["file"].rsplit("/", 1)[1]
    read(fields)
    data = path.read_bytes()
    path.unlink()
    if change == "grown":
        path.write_bytes(data + b"9,more\n")
    with pytest.raises(UnreadableSlice, match=f"{path.name} (is no longer what it was|cannot be read: No such file)"):
        part(fields, 0, 1)
