"""Datasets over plain paths: what they are made of, their windows, and what they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pandas as pd
import pytest

from batchmesh import Dataset, DatasetConsumptionConfig, DataType
from batchmesh.errors import InputRefused, Refused, SpecRefused
from batchmesh.sdk import NotServed, PromoteHeadersBehavior

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh import Workspace

FRAME = pd.DataFrame({"id": range(50), "name": [f"n{number}" for number in range(50)]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files and a table, below a folder each."""
    (tmp_path / "in" / "more").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "more/c.txt", "more/d.txt", "z.txt"):
        (tmp_path / "in" / name).write_text(name)
    (tmp_path / "tables").mkdir()
    FRAME.iloc[:20].to_csv(tmp_path / "tables" / "1.csv", index=False)
    FRAME.iloc[20:].to_csv(tmp_path / "tables" / "2.csv", index=False)
    return tmp_path


def test_the_files_of_a_folder_are_named_below_it(folder: Path) -> None:
    files = Dataset.File.from_files(str(folder / "in"))
    assert files.to_path() == ["/a.txt", "/b.txt", "/more/c.txt", "/more/d.txt", "/z.txt"]
    assert Dataset.File.from_files(str(folder / "in" / "more" / "*.txt")).to_path() == ["/c.txt", "/d.txt"]
    assert Dataset.File.from_files([str(folder / "in" / "a.txt"), str(folder / "in" / "more")]).to_path() == [
        "/a.txt",
        "/c.txt",
        "/d.txt",
    ]


def test_take_and_skip_are_a_window_of_the_files(folder: Path) -> None:
    files = Dataset.File.from_files(str(folder / "in"))
    assert files.take(2).to_path() == ["/a.txt", "/b.txt"]
    assert files.skip(1).take(2).to_path() == ["/b.txt", "/more/c.txt"]
    assert files.take(3).skip(2).to_path() == ["/more/c.txt"]
    assert files.take(3).skip(1).take(9).to_path() == ["/b.txt", "/more/c.txt"]
    assert files.take(1).skip(4).to_path() == []
    for wrong in (-1, 1.5, True, "2"):
        with pytest.raises(SpecRefused, match="take takes"):
            files.take(wrong)  # type: ignore[arg-type]


def test_a_window_of_more_files_than_a_job_can_name_is_refused(tmp_path: Path) -> None:
    long = "x" * 240
    for number in range(11_000):
        (tmp_path / f"{long}{number:06}").touch()
    files = Dataset.File.from_files(str(tmp_path))
    workspace = cast("Workspace", None)
    assert len(files.take(10).window_paths(workspace)) == 10
    with pytest.raises(InputRefused, match=r"more files .* than a job can name"):
        files.skip(1).window_paths(workspace)


def test_files_are_copied_once(folder: Path) -> None:
    files = Dataset.File.from_files(str(folder / "in")).skip(2)
    copied = files.download(str(folder / "copy"))
    assert [path.removeprefix(str(folder)) for path in copied] == [
        "/copy/more/c.txt",
        "/copy/more/d.txt",
        "/copy/z.txt",
    ]
    assert (folder / "copy" / "more" / "c.txt").read_text() == "more/c.txt"
    with pytest.raises(InputRefused, match="is there already"):
        files.download(str(folder / "copy"))
    assert files.download(str(folder / "copy"), overwrite=True) == copied


def test_rows_are_read_as_workers_get_them(folder: Path) -> None:
    rows = Dataset.Tabular.from_delimited_files(str(folder / "tables"))
    pd.testing.assert_frame_equal(rows.to_pandas_dataframe(), FRAME, check_dtype=False)
    window = rows.skip(15).take(10).to_pandas_dataframe()
    assert window["id"].tolist() == list(range(15, 25))
    typed = Dataset.Tabular.from_delimited_files(str(folder / "tables"), set_column_types={"id": DataType.to_string()})
    assert typed.take(1).to_pandas_dataframe()["id"].tolist() == ["0"]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_rows_of_other_kinds_are_the_same(folder: Path, kind: str) -> None:
    path = folder / f"table.{kind}"
    if kind == "parquet":
        FRAME.to_parquet(path)
        rows = Dataset.Tabular.from_parquet_files(str(path))
    else:
        FRAME.to_json(path, orient="records", lines=True)
        rows = Dataset.Tabular.from_json_lines_files(str(path))
    assert rows.skip(48).to_pandas_dataframe()["name"].tolist() == ["n48", "n49"]


def test_a_data_frame_is_a_dataset_without_its_index() -> None:
    rows = Dataset.Tabular.from_pandas_dataframe(FRAME.set_index(FRAME.index + 100))
    pd.testing.assert_frame_equal(rows.to_pandas_dataframe(), FRAME)
    assert rows.take(5).skip(3).to_pandas_dataframe()["id"].tolist() == [3, 4]
    assert rows.as_named_input("rows").dataset.content.kind == "parquet"


def test_what_is_no_data_frame_is_refused() -> None:
    with pytest.raises(SpecRefused, match="made of a pandas DataFrame, not of a list"):
        Dataset.Tabular.from_pandas_dataframe([1])  # type: ignore[arg-type]


def test_what_is_not_there_is_said_where_the_dataset_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="does not exist"):
        Dataset.File.from_files(str(tmp_path / "none"))
    unseen = Dataset.File.from_files(str(tmp_path / "none"), validate=False)
    with pytest.raises(InputRefused, match="does not exist"):
        unseen.to_path()


@pytest.mark.parametrize("path", [7, [], "https://example.test/a.csv", ("mnist", "a"), "datastore://-bad/a"])
def test_what_is_no_place_is_refused(path: Any) -> None:
    with pytest.raises(SpecRefused):
        Dataset.File.from_files(path, validate=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"partition_format": "{year}"}, "partition_format"),
        ({"include_path": True}, "include_path"),
        ({"infer_column_types": False}, "infer_column_types"),
        ({"separator": ";"}, "separator ';'"),
        ({"encoding": "latin1"}, "latin1"),
        ({"header": PromoteHeadersBehavior.ONLY_FIRST_FILE_HAS_HEADERS}, "header in the first file"),
        ({"set_column_types": {"a": "int"}}, "set_column_types"),
        ({"header": "first"}, "header is True, False or a PromoteHeadersBehavior"),
    ],
)
def test_what_is_not_served_of_delimited_files_is_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        Dataset.Tabular.from_delimited_files("/data/a.csv", validate=False, **given)


def test_headers_and_types_are_kept() -> None:
    types = {"a": DataType.to_long(), "b": DataType.to_float(), "c": DataType.to_bool(), "d": DataType.to_datetime()}
    rows = Dataset.Tabular.from_delimited_files("/data/a.csv", validate=False, header=False, set_column_types=types)
    assert rows.content.csv_header == "absent"
    assert rows.content.csv_types == {"a": "int64", "b": "float64", "c": "bool", "d": "timestamp"}
    with pytest.raises(NotServed, match="formats"):
        DataType.to_datetime("%d")
    with pytest.raises(NotServed, match="decimal_mark"):
        DataType.to_float(",")


@pytest.mark.parametrize("name", ["", "1st", "a b", "a-b", None])
def test_an_input_name_has_letters_digits_and_underscores(name: Any) -> None:
    files = Dataset.File.from_files("/data", validate=False)
    with pytest.raises(SpecRefused, match="input name"):
        files.as_named_input(name)
    with pytest.raises(SpecRefused, match="mode"):
        DatasetConsumptionConfig("a", files, mode="teleport")
    with pytest.raises(SpecRefused, match="give a dataset"):
        DatasetConsumptionConfig("a", "/data")  # type: ignore[arg-type]


def test_modes_are_kept() -> None:
    named = Dataset.File.from_files("/data", validate=False).as_named_input("a")
    assert [each.mode for each in (named, named.as_mount(), named.as_download("/there"), named.as_direct())] == [
        "direct",
        "mount",
        "download",
        "direct",
    ]
