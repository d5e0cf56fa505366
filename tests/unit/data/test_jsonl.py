"""JSON lines: a row is an object in a line; bad lines are named, and the fast parser reads what the exact one reads."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchmesh.data import jsonl, jsonl_values
from batchmesh.data.columns import Column
from batchmesh.data.reading import read_slice
from batchmesh.data.records import LineScanner
from batchmesh.data.size import MiniBatchSize
from batchmesh.data.slices import Batch, RowFailure, decode_slice, encode_slice
from batchmesh.data.text import Records


def batches(path: Path, data: bytes, size: str = "1MB", types: dict[str, str] | None = None) -> list[Batch]:
    path.write_bytes(data)
    found = jsonl.split(str(path), MiniBatchSize.parse(size, "jsonl"), types or {})
    return [read_slice(decode_slice(encode_slice(piece.fields))) for piece in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.jsonl"


def test_bad_lines_are_named_and_the_others_go_on(path: Path) -> None:
    data = b'{"a":1}\n\n{bad}\n\xff\n[5]\r\n  \n{"a":"x"}\n{"b":1}\n{"a":2}'
    found = batches(path, data, types={"a": "int64"})
    assert [batch.items["a"].tolist() for batch in found] == [[1, 2]]
    assert [(fail.line, fail.row, fail.column) for fail in found[0].failures] == [
        (3, 2, None),
        (4, 3, None),
        (5, 4, None),
        (7, 5, "a"),
        (8, 6, "a"),
    ]
    assert found[0].failures[0] == RowFailure(
        str(path),
        3,
        2,
        None,
        "the line is not JSON: Expecting property name enclosed in double quotes at character 2",
    )


def test_types_are_the_same_in_every_mini_batch_of_a_file(path: Path) -> None:
    first = {"i": 1, "f": 1, "g": 2, "s": "2020-01-01", "n": None, "b": True, "o": [1], "m": 1}
    second = {"i": 2, "f": 2.5, "s": "x", "b": None, "o": {"k": 1}, "m": "x"}
    found = batches(path, b"\n".join(json.dumps(row).encode() for row in (first, second)), "1 rows")
    for batch in found:
        kinds = batch.items.dtypes.astype(str).to_dict()
        assert [kinds[name] for name in "ifgbom"] == ["int64", "float64", "float64", "object", "object", "object"]
        assert all(pd.api.types.is_string_dtype(batch.items[name].dtype) for name in "sn")
    assert [batch.items["o"][0] for batch in found] == [[1], {"k": 1}]


def test_a_key_that_the_sample_does_not_hold_is_a_further_column(path: Path) -> None:
    path.write_bytes(b'{"a":1}\n')
    (piece,) = jsonl.split(str(path), MiniBatchSize(1, "rows"), {})
    path.write_bytes(b'{"b":1}')
    path.write_bytes(b'{"a":2,"b":[3]}\n')
    batch = read_slice({**piece.fields, "length": 16, "size": 16})
    assert batch.items.to_dict("list") == {"a": [2], "b": [[3]]}
    assert batch.failures == []


def test_large_integers_and_nested_values_survive(path: Path) -> None:
    (batch,) = batches(path, b'{"a":36893488147419103232,"b":{"c":[1,null]}}\n{"a":1,"b":"x"}\n')
    assert batch.items["a"].tolist() == [2**65, 1]
    assert batch.items["b"].tolist() == [{"c": [1, None]}, "x"]


def test_several_objects_in_a_line_are_one_bad_row(path: Path) -> None:
    (batch,) = batches(path, b'{"a":1}{"a":2}\n{"a":\n3}\n')
    assert len(batch.items) == 0
    assert [failure.line for failure in batch.failures] == [1, 2, 3]


def test_a_gzip_file_with_a_byte_order_mark_is_one_slice(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    found = batches(path, gzip.compress(b"\xef\xbb\xbf" + b'{"a":1}\n' * 3000), "1KB")
    assert [len(batch.items) for batch in found] == [3000]


@pytest.mark.parametrize("data", [b"", b"\n \r\n\t\n"])
def test_a_file_without_rows_has_no_slices(path: Path, data: bytes) -> None:
    assert batches(path, data) == []


PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-(2**64), 2**64), st.floats(), st.text(max_size=5))
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), PLAIN), min_size=1, max_size=5)
TYPES = st.sampled_from(["int64", "float64", "bool", "optional_bool", "string"])


def same(one: Any, other: Any) -> bool:
    return bool(pd.DataFrame(one).equals(pd.DataFrame(other)))


@settings(deadline=None, max_examples=300, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.dictionaries(st.sampled_from("abc"), TYPES, min_size=1), st.booleans())
def test_where_the_fast_parser_reads_a_slice_it_reads_what_the_exact_one_reads(
    rows: list[dict[str, Any]], types: dict[str, str], ascii_only: bool
) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    data = bytearray(b"\n" + lines.encode("utf-8", "surrogatepass"))
    columns = [Column(*item) for item in types.items()]
    records = Records(data, LineScanner())
    table = jsonl_values.parse_plain(data, records, columns)
    if table is not None:
        from batchmesh.data.text import to_pandas

        frame, bad = jsonl_values.parse_each(data, records, columns)
        assert not bad
        fast = to_pandas(table, columns)
        assert list(fast.columns) == list(frame.columns)
        assert fast.dtypes.tolist() == frame.dtypes.tolist()
        assert same(fast, frame)
    assert np.array_equal(
        [column.name for column in jsonl_values.infer(lines.encode("utf-8", "surrogatepass"))],
        list(dict.fromkeys(name for row in rows for name in row)),
    )
