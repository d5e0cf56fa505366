"""From results to the bytes of one output: each format's renderer together with its join."""

from __future__ import annotations

import datetime as dt
import io
import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from batchmesh.rows.joining import Join, joining_for
from batchmesh.rows.rendering import counting_renderer, renderer_for
from batchmesh.rows.results import result_length


def output(name: str, *results: Any, **settings: Any) -> tuple[bytes, Join]:
    """What a job with these results writes: all columns learnt first, then all frames written."""
    renderer, join, out = renderer_for(name, **settings), joining_for(name), io.BytesIO()
    frames = [renderer.render(result) for result in results]
    for frame in frames:
        join.learn(frame.schema)
    writer = join.writer(out)
    for frame in frames:
        writer.write(frame.schema, [frame.body])
    writer.close()
    return out.getvalue(), join


def text(name: str, *results: Any, **settings: Any) -> str:
    return output(name, *results, **settings)[0].decode()


def objects(*results: Any) -> list[Any]:
    return [json.loads(line) for line in text("a.jsonl", *results).split("\n")[:-1]]


def rows(*results: Any) -> list[Any]:
    found: list[Any] = parquet.read_table(io.BytesIO(output("a.parquet", *results)[0])).to_pylist()
    return found


# --- what is a result


@pytest.mark.parametrize(
    "result",
    [[1, 2], (1, 2), np.array([1, 2]), np.zeros((2, 3)), pd.Series([1, 2]), pd.DataFrame({"a": [1, 2]})],
)
def test_a_result_is_a_list_tuple_array_series_or_dataframe(result: Any) -> None:
    assert result_length(result) == 2
    assert counting_renderer().render(result) == (b"", b"", 0)


@pytest.mark.parametrize(
    ("result", "named"),
    [
        (None, "None"),
        ("ab", "str"),
        ({"a": 1}, "dict"),
        (3, "int"),
        (iter([]), "list_iterator"),
        (np.array(1), "array"),
    ],
)
def test_anything_else_is_refused_by_its_type(result: Any, named: str) -> None:
    for renderer in (counting_renderer(), renderer_for("a.txt"), renderer_for("a.csv"), renderer_for("a.jsonl")):
        with pytest.raises(TypeError, match=named):
            renderer.render(result)


def test_text_of_a_list_imports_nothing_but_the_standard_library() -> None:
    script = (
        "import sys; from batchmesh.rows.rendering import renderer_for; renderer_for('a.txt').render(['x']); "
        "print([m for m in ('pandas', 'numpy', 'pyarrow', 'grpc') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- .txt


def test_text_has_the_str_of_each_element_on_a_line() -> None:
    assert text("a.txt", ["a", 1, None, 1.5], (np.float64(2.5), "é")) == "a\n1\nNone\n1.5\n2.5\né\n"


def test_an_unknown_extension_is_text() -> None:
    assert text("result", ["a"]) == text("result.tsv", ["a"]) == "a\n"


def test_a_dataframe_is_space_separated_text_without_header_and_index() -> None:
    assert text("a.txt", pd.DataFrame({"a": [1, 2], "b": ["x", "y z"]})) == '1 x\n2 "y z"\n'


def test_the_header_of_dataframes_is_written_once_and_first() -> None:
    one, two = pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"a": [3], "b": [4]})
    assert text("a.txt", ["listed"], one, two, dataframe_header=True) == "a b\nlisted\n1 2\n3 4\n"


def test_the_settings_of_to_csv_are_passed_through() -> None:
    frame = pd.DataFrame({"a": [1], "b": [None]}, index=[7])
    given_settings = json.dumps({"sep": ",", "index": True, "na_rep": "-"})
    assert text("a.txt", frame, to_csv_json=given_settings) == "7,1,-\n"


@pytest.mark.parametrize("settings", ["[1]", "{", '{"path_or_buf": "x"}'])
def test_bad_settings_of_to_csv_are_refused(settings: str) -> None:
    with pytest.raises(ValueError, match="to_csv"):
        renderer_for("a.txt", to_csv_json=settings)


def test_a_file_name_that_is_no_utf8_comes_back_as_its_bytes() -> None:
    assert output("a.txt", [b"\xff.png".decode("utf-8", "surrogateescape")])[0] == b"\xff.png\n"


# --- columns, the same in each format


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_no_results_are_an_empty_file(name: str) -> None:
    assert text(name) == text(name, []) == text(name, pd.DataFrame()) == ""


def test_no_results_are_a_parquet_file_without_rows() -> None:
    assert rows() == rows([]) == rows(pd.DataFrame({"a": []})) == []


def test_a_dataframe_without_rows_still_gives_its_columns() -> None:
    assert text("a.csv", pd.DataFrame({"a": [], "b": []})) == "a,b\n"


def test_columns_are_the_union_in_order_of_first_appearance() -> None:
    results = ([{"b": 1}], [{"a": 2, "b": 3}], ["x"])
    assert text("a.csv", *results) == 'b,a,result\n1,,\n3,2,\n,,"x"\n'
    assert list(objects(*results)[0]) == list(rows(*results)[0]) == ["b", "a", "result"]
    assert objects(*results) == rows(*results)


def test_a_list_may_mix_dicts_and_other_values() -> None:
    mixed = [{"a": 1}, "x"]
    assert objects(mixed) == rows(mixed) == [{"a": 1, "result": None}, {"a": None, "result": "x"}]


def test_int_and_float_become_float_and_null_joins_anything() -> None:
    results = ([{"a": 1}], [{"a": None}], [{"a": 2.5}])
    assert [each["a"] for each in rows(*results)] == [1.0, None, 2.5]
    assert text("a.jsonl", *results) == '{"a": 1.0}\n{"a": null}\n{"a": 2.5}\n'
    assert output("a.csv", *results)[1].joined_to_string() == []


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_what_does_not_join_becomes_string_and_is_named(name: str) -> None:
    across = output(name, [{"ok": 1, "bad": 1}], [{"ok": 2, "bad": "x"}])[1]
    within = output(name, [{"ok": 1, "bad": 1}, {"ok": 2, "bad": True}])[1]
    assert across.joined_to_string() == within.joined_to_string() == ["bad"]


def test_values_that_became_strings_keep_their_text() -> None:
    results = ([1, 2], ["x,y"], [True])
    assert text("a.csv", *results) == 'result\n"1"\n"2"\n"x,y"\n"true"\n'
    assert [each["result"] for each in objects(*results)] == ["1", "2", "x,y", "true"]
    assert [each["result"] for each in rows(*results)] == ["1", "2", "x,y", "true"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_the_same_columns_twice_are_told_apart(name: str) -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"])
    assert output(name, frame)[1].columns() == ["a", "a.1", "b"]


def test_null_and_the_empty_string_stay_apart_when_csv_is_written_anew() -> None:
    first = [{"a": ""}, {"a": None}, {"a": 'q"\n,'}]
    assert text("a.csv", first, [{"a": "x", "b": 1}]) == 'a,b\n"",\n,\n"q""\n,",\n"x",1\n'


@pytest.mark.parametrize(
    ("results", "lines"),
    [
        ([[None, 1.5]], 'result\n""\n1.5\n'),
        ([[None], [None]], 'result\n""\n""\n'),
        ([["x\n\ny", None, ""]], 'result\n"x\n\ny"\n""\n""\n'),
        ([[{"a": None}, {"a": 1}], [{"a": "x"}]], 'a\n""\n"1"\n"x"\n'),
        ([[{"a": None}, {"a": 1}], [{"b": True}]], "a,b\n,\n1,\n,true\n"),
    ],
)
def test_a_csv_row_of_one_null_is_a_row_to_any_reader(results: list[Any], lines: str) -> None:
    assert text("a.csv", *results) == lines
    assert len(pd.read_csv(io.StringIO(lines))) == sum(map(len, results))


def test_parquet_takes_dicts_without_keys_and_what_else_it_has_no_type_for() -> None:
    assert rows([{"a": {}, "b": [{}]}]) == [{"a": "{}", "b": "[{}]"}]
    assert rows([{"a": {}}], [{"a": {"x": 1}}]) == [{"a": {"x": None}}, {"a": {"x": 1}}]
    intervals = pd.Series(pd.arrays.ArrowExtensionArray(pa.array([pa.scalar((1, 2, 3), pa.month_day_nano_interval())])))
    assert len(rows(intervals)) == 1


def test_durations_of_two_units_are_one_column() -> None:
    frames = [pd.DataFrame({"t": pd.to_timedelta(["1h"]).as_unit(unit)}) for unit in ("ns", "s")]
    assert [row["t"] for row in rows(*frames)] == [dt.timedelta(hours=1)] * 2


def test_sets_are_written_in_the_same_order_by_each_process() -> None:
    results = [{"a": {"x", "y", "z"}, "b": {"k": frozenset("pq"), "l": ({"n", "m"},)}}]
    assert rows(results) == [{"a": ["x", "y", "z"], "b": {"k": ["p", "q"], "l": [["m", "n"]]}}]
    assert text("a.csv", [{"x", "y", "z"}]) == 'result\n"[""x"", ""y"", ""z""]"\n'


def test_a_dataframe_of_rows_without_columns_is_written_as_pandas_does() -> None:
    frame = pd.DataFrame(index=range(2))
    assert text("a.txt", frame, pd.DataFrame()) == frame.to_csv(sep=" ", header=False, index=False) == "\n\n"


@pytest.mark.parametrize(("encoding", "why"), [("utf-16", "mark"), ("utf-8-sig", "mark"), ("none-such", "unknown")])
def test_an_encoding_that_cannot_be_written_in_parts_is_refused(encoding: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        renderer_for("a.txt", to_csv_json=json.dumps({"encoding": encoding}))


def test_csv_names_are_quoted_where_they_need_it() -> None:
    assert text("a.csv", [{"a,b": 1, 'q"': 2, "plain": 3}]) == '"a,b","q""",plain\n1,2,3\n'


def test_values_of_all_kinds_have_a_sensible_form_in_each_format() -> None:
    values: dict[str, Any] = {
        "np_int": np.int32(3), "np_float": np.float32(0.5), "np_bool": np.bool_(True), "nan": float("nan"),
        "none": None, "bytes": b"ab", "time": dt.datetime.fromisoformat("2020-01-02T03:04:05"),
        "day": dt.date(2020, 1, 2),
        "stamp": pd.Timestamp("2020-01-02", tz="UTC"), "nat": pd.NaT, "decimal": Decimal("1.10"), "list": [1, 2],
        "dict": {"k": [None, "é"]}, "huge": 2**70, "path": b"\xff".decode("utf-8", "surrogateescape"),
    }  # fmt: skip
    line = objects([values])[0]
    assert line["np_int"] == 3
    assert line["nan"] is line["none"] is line["nat"] is None
    assert line["bytes"] == "ab"
    assert line["huge"] == 2**70
    assert line["dict"] == {"k": [None, "é"]}
    assert line["time"] == "2020-01-02 03:04:05"
    row = rows([values])[0]
    assert row["time"] == values["time"]
    assert row["decimal"] == Decimal("1.10")
    assert row["list"] == [1, 2]
    assert row["huge"] == str(2**70)
    assert row["nan"] is None
    frame = pd.read_csv(io.StringIO(text("a.csv", [values])))
    assert frame.loc[0, "dict"] == '{"k": [null, "é"]}'
    assert frame.loc[0, "decimal"] == 1.1
    assert frame["nan"].isna().all()


def test_json_lines_have_no_nan_and_no_infinity() -> None:
    assert text("a.jsonl", [float("inf"), {"x": [float("nan")]}]).count("null") == 4


def test_categories_and_string_types_are_plain_columns() -> None:
    frame = pd.DataFrame({"c": pd.Series(["a", None], dtype="category"), "s": pd.Series(["é", ""], dtype="string")})
    table = parquet.read_table(io.BytesIO(output("a.parquet", frame, pd.DataFrame({"c": ["b"], "s": ["t"]}))[0]))
    assert table.schema.types == [pa.string(), pa.string()]
    assert text("a.csv", frame) == 'c,s\n"a","é"\n,""\n'


def test_empty_lists_and_other_fields_join_with_full_ones_in_parquet() -> None:
    found = rows([{"v": []}], [{"v": [{"a": 1}]}], [{"v": [{"b": 2.5}]}])
    assert [each["v"] for each in found] == [[], [{"a": 1, "b": None}], [{"a": None, "b": 2.5}]]


def test_timestamps_of_different_units_keep_the_finer_and_the_far_future() -> None:
    far = pd.DataFrame({"t": pd.Series(np.array(["9999-12-31"], "datetime64[s]"))})
    near = pd.DataFrame({"t": pd.Series(np.array(["2020-01-01T00:00:00.5"], "datetime64[ns]"))})
    assert [each["t"].year for each in rows(far, near)] == [9999, 2020]


def test_a_million_mini_batches_do_not_make_a_million_row_groups() -> None:
    written = output("a.parquet", *([n] for n in range(500)))[0]
    assert parquet.ParquetFile(io.BytesIO(written)).num_row_groups == 1


def test_only_frames_whose_columns_differ_are_written_anew() -> None:
    for name in ("a.csv", "a.jsonl"):
        renderer, join = renderer_for(name), joining_for(name)
        narrow, wide = renderer.render([{"a": 1}]), renderer.render([{"a": 1, "b": 2}])
        assert [join.learn(frame.schema) for frame in (narrow, narrow, wide, narrow)] == [True, False, True, False]
        writer = join.writer(io.BytesIO())
        assert writer.moves(wide.schema)
        assert not writer.moves(narrow.schema)


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_infinity=False), st.text(), st.binary(max_size=5),
    st.lists(st.integers(0, 9), max_size=2), st.dates(), st.datetimes(),
)  # fmt: skip
RESULTS = st.lists(st.lists(st.dictionaries(st.sampled_from("abcé,"), CELL, max_size=4) | CELL, max_size=4), max_size=4)


@settings(deadline=None)
@given(RESULTS)
def test_every_row_of_any_results_is_in_every_format_once(results: list[list[Any]]) -> None:
    count = sum(map(len, results))
    assert len(objects(*results)) == count
    table = parquet.read_table(io.BytesIO(output("a.parquet", *results)[0]))
    assert table.num_rows == (count if table.num_columns else 0)
    written, join = output("a.csv", *results)
    if join.columns():
        frame = pd.read_csv(io.BytesIO(written), dtype=str, keep_default_na=False)
        assert list(frame.shape) == [count, len(join.columns())]
