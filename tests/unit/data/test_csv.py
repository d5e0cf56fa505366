"""CSV slices: each row reaches exactly one DataFrame, as pyarrow reads the whole file; bad rows are named."""

import gzip
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchmesh.data import csv, sampling
from batchmesh.data.columns import Column, arrow_type
from batchmesh.data.csv_misfits import separate
from batchmesh.data.csv_parser import ragged_share
from batchmesh.data.reading import read_slice
from batchmesh.data.size import MiniBatchSize
from batchmesh.data.slices import Batch, RowFailure, UnreadableFile, UnreadableSlice, decode_slice, encode_slice

QUICK = settings(
    deadline=None, max_examples=200, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def slices(
    path: Path, size: str = "1MB", types: dict[str, str] | None = None, header: bool = True
) -> list[dict[str, Any]]:
    found = csv.split(str(path), MiniBatchSize.parse(size, "csv"), csv.CsvOptions(header, types or {}))
    return [decode_slice(encode_slice(piece.fields)) for piece in found]


def batches(path: Path, size: str = "1MB", types: dict[str, str] | None = None, header: bool = True) -> list[Batch]:
    return [read_slice(fields) for fields in slices(path, size, types, header)]


def written(folder: Path, data: bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def failures(found: list[Batch]) -> list[RowFailure]:
    return [failure for batch in found for failure in batch.failures]


def rows(found: list[Batch]) -> list[list[Any]]:
    return [row for batch in found for row in batch.items.to_numpy().tolist()]


FIELD = st.one_of(
    st.text("ab ü", max_size=3),
    st.text('a",\n\r', max_size=5).map(lambda text: '"' + text.replace('"', '""') + '"'),
    st.sampled_from(['5" nail', 'a"b"', '""', '"x"y', "\ufeffmark"]),
)
ROW = st.lists(FIELD, min_size=2, max_size=3).map(",".join)
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"])
TABLE = st.lists(st.tuples(ROW, ENDS), max_size=12).map(lambda rows: "".join(row + end for row, end in rows))


@QUICK
@given(TABLE, st.booleans(), st.booleans(), st.integers(1, 40), st.sampled_from(["", " rows"]))
def test_the_slices_of_any_table_hold_what_pyarrow_reads_from_the_whole(
    tmp_path: Path, body: str, mark: bool, cut_end: bool, amount: int, unit: str
) -> None:
    body = body.rstrip("\r\n") if cut_end else body
    data = "one,two\r\n" + body
    ragged: list[int] = []

    def note(row: pa.csv.InvalidRow) -> str:
        ragged.append(row.number)
        return "skip"

    whole = pa.csv.read_csv(
        pa.BufferReader(b"\n" + data.encode()),
        pa.csv.ReadOptions(use_threads=False, block_size=len(data.encode()) + 2),
        pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
        pa.csv.ConvertOptions(column_types={"one": pa.string(), "two": pa.string()}),
    )
    path = written(tmp_path, (b"\xef\xbb\xbf" if mark else b"") + data.encode())
    types = {"one": "string", "two": "string"}
    found = batches(path, f"{amount}{unit}", types)
    assert rows(found) == [list(row.values()) for row in whole.to_pylist()]
    assert [failure.row + 1 for failure in failures(found)] == ragged
    assert all(list(batch.items.index) == list(range(len(batch.items))) for batch in found)


def test_a_ragged_row_is_named_with_its_line_behind_quoted_newlines_and_empty_lines(tmp_path: Path) -> None:
    path = written(tmp_path, b'a,b\r\n1,"x\r\ny"\r\n\r\n\n2\r\n3,z\n4,5,6\n')
    for size in ("1 rows", "2 rows", "1MB"):
        found = batches(path, size)
        assert rows(found) == [[1, "x\r\ny"], [3, "z"]]
        assert failures(found) == [
            RowFailure(str(path), 6, 2, None, "the row has 1 field, the file 2 columns"),
            RowFailure(str(path), 8, 4, None, "the row has 3 fields, the file 2 columns"),
        ]


def test_undecodable_bytes_cost_their_row_alone(tmp_path: Path) -> None:
    path = written(tmp_path, b"a,b\n1,x\n2,\xff\n3,z\n")
    found = batches(path)
    assert rows(found) == [[1, "x"], [3, "z"]]
    assert failures(found) == [RowFailure(str(path), 3, 2, "b", r"'\xff' is not UTF-8")]


def test_a_value_that_misfits_costs_its_row_alone(tmp_path: Path) -> None:
    path = written(tmp_path, b"a,b\n1,true\n\nx,false\n3,maybe\n4,true")
    found = batches(path, types={"a": "int64", "b": "bool"})
    assert rows(found) == [[1, True], [4, True]]
    assert [(failure.line, failure.row, failure.column) for failure in failures(found)] == [(4, 2, "a"), (5, 3, "b")]
    assert failures(found)[0].error == "'x' is not int64; --csv-types a=string takes any value"


def test_an_empty_value_in_a_column_of_integers_is_a_failed_row_that_names_the_remedy(tmp_path: Path) -> None:
    path = written(tmp_path, b"a,b\n1,x\n,y\n3,z\n")
    found = batches(path, types={"a": "int64"})
    assert rows(found) == [[1, "x"], [3, "z"]]
    assert failures(found)[0].error == "an empty value in a column of int64; --csv-types a=float64 takes empty values"


def test_types_are_the_same_in_every_mini_batch_of_a_file(tmp_path: Path) -> None:
    data = b"i,f,g,s,n,b,t,d\n1,1,2,x,,true,2020-01-01 00:00:00,2020-01-01\n2,,2.5,7,,,2020-01-01 00:00:01,9999-12-31\n"
    found = batches(written(tmp_path, data), "1 rows")
    assert len(found) == 2
    for batch in found:
        kinds = [str(kind) for kind in batch.items.dtypes]
        assert kinds[:3] == ["int64", "float64", "float64"]
        assert all(pd.api.types.is_string_dtype(batch.items[name].dtype) for name in ("s", "n"))
        assert kinds[5:] == ["object", "datetime64[us]", "datetime64[us]"]
    assert found[1].items["b"][0] is None
    assert found[1].items["n"][0] == ""


def test_a_file_longer_than_the_sample_is_sampled_over_its_whole_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "LIMIT", 64 * 256)
    data = b"a,b\n" + b'1,"x\n1,y"\n' * 20_000 + b'1.5,"z"\n' * 200
    path = written(tmp_path, data)
    assert slices(path)[0]["columns"] == [["a", "float64"], ["b", "string"]]
    assert slices(written(tmp_path, gzip.compress(data), "t.csv.gz"))[0]["columns"][0] == ["a", "float64"]


def test_a_piece_of_a_sample_that_begins_within_quotes_is_read_as_such() -> None:
    piece = b'x,x,x\nx"\n1,"a\nb,b,b"\n2,"c"\n3,"'
    whole = csv._whole_records(piece, False, 2, ",")
    assert whole == b'1,"a\nb,b,b"\n2,"c"\n'
    assert ragged_share(whole, 2, ",") == 0


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv"])
def test_a_gzip_file_is_one_slice_whatever_its_name(tmp_path: Path, name: str) -> None:
    data = b"\xef\xbb\xbfa,b\n" + b'1,"x\ny"\n' * 1000 + b"2\n"
    path = written(tmp_path, gzip.compress(data[:2000]) + gzip.compress(data[2000:]), name)
    (fields,) = slices(path, "1KB")
    assert fields["rows"] == 1001
    batch = read_slice(fields)
    assert len(batch.items) == 1000
    assert batch.failures == [RowFailure(str(path), 2002, 1001, None, "the row has 1 field, the file 2 columns")]


def test_tabs_part_the_fields_of_tsv(tmp_path: Path) -> None:
    path = written(tmp_path, b"a\tb\n1,5\tx\n", "t.tsv")
    assert rows(batches(path)) == [["1,5", "x"]]


def test_without_a_header_columns_have_numbers(tmp_path: Path) -> None:
    (batch,) = batches(written(tmp_path, b"1,x\n2,y\n"), header=False)
    assert list(batch.items.columns) == ["Column1", "Column2"]
    assert rows([batch]) == [[1, "x"], [2, "y"]]


def test_doubled_and_empty_column_names_are_told_apart(tmp_path: Path) -> None:
    (batch,) = batches(written(tmp_path, b"a,,a\n1,2,3\n"))
    assert list(batch.items.columns) == ["a", "Column2", "a.1"]


def test_a_quoted_field_that_never_ends_is_one_failed_row(tmp_path: Path) -> None:
    path = written(tmp_path, b'a,b\n1,2\n\n3,"4\n5,6\n')
    found = batches(path)
    assert rows(found) == [[1, "2"]]
    assert failures(found) == [RowFailure(str(path), 4, 2, None, "a quoted field begins in this row and never ends")]


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"a,b", b"a,b\r\n\r\n", b"\xef\xbb\xbf", gzip.compress(b"a\n", mtime=0)]
)
def test_a_file_without_rows_has_no_slices(tmp_path: Path, data: bytes) -> None:
    assert slices(written(tmp_path, data)) == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "it is UTF-16; convert it to UTF-8"),
        (b"\xff,b\n1,2\n", "its header is not UTF-8"),
        (b'"a,b\n1,2\n', "begins in its first record and never ends"),
        (gzip.compress(random.Random(0).randbytes(5000), mtime=0)[:2000], "cannot be read"),
        (b"\x1f\x8bgarbage", "cannot be read"),
    ],
)
def test_a_damaged_file_gets_a_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(UnreadableFile, match=sentence):
        slices(written(tmp_path, data))


def test_a_missing_file_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        slices(tmp_path / "gone.csv")


@pytest.mark.parametrize("data", [b"a\n1\n", b"a\n1\n23\n\n\n"])
def test_a_file_that_has_changed_since_is_told(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path, b"a\n1\n2\n3\n")
    (fields,) = slices(path)
    path.write_bytes(data)
    with pytest.raises(UnreadableSlice, match="no longer what it was"):
        read_slice(fields)
    path.unlink()
    with pytest.raises(UnreadableSlice, match="No such file"):
        read_slice(fields)


VALUE = st.one_of(
    st.text("0123456789+-.eExXaAnNfFuUlLtTrRsS :TZ/", max_size=12),
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(str),
    st.sampled_from([" 1", "1\t", "\n1", "0x1F", "true", "TRUE", "0", "NaN", "NULL", "", " ", "é"]),
    st.datetimes().map(str),
    st.dates().map(str),
)


@settings(deadline=None, max_examples=400, database=None)
@given(
    st.lists(VALUE, min_size=1, max_size=6),
    st.sampled_from(["int64", "int8", "uint16", "float64", "float32", "bool", "timestamp", "timestamp[ns]"]),
)
def test_a_value_misfits_exactly_when_pyarrow_refuses_it_alone(values: list[str], kind: str) -> None:
    lines = [b'"' + value.encode() + b'"\n' for value in values]

    def refused(line: bytes) -> bool:
        options = pa.csv.ConvertOptions(column_types={"0": arrow_type(kind)})
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(line), pa.csv.ReadOptions(column_names=["0"]), convert_options=options
            )
        except pa.ArrowInvalid:
            return True
        return bool(table.column(0).null_count) and not Column("0", kind).takes_empty

    table, bad = separate(bytearray(b"\n" + b"".join(lines)), [Column("a", kind)], ",")
    assert [row.row for row in bad] == [index for index, line in enumerate(lines) if refused(line)]
    assert table.num_rows == len(values) - len(bad)


def test_splitting_goes_on_behind_any_slice(tmp_path: Path) -> None:
    path = written(tmp_path, b"a,b\n" + b'1,"x\ny"\n' * 100)
    size = MiniBatchSize(64, "bytes")
    whole = list(csv.split(str(path), size, csv.CsvOptions()))
    assert len(whole) > 5
    for index, piece in enumerate(whole):
        assert list(csv.split(str(path), size, csv.CsvOptions(), piece.after)) == whole[index + 1 :]
