"""Tables in, each format out: every row reaches exactly one run(), and the output is the plain loop's."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.support.story import (
    adds_up,
    failed_items,
    lines,
    run_job,
    succeeded,
    summary,
    write_script,
)

if TYPE_CHECKING:
    from tests.support.mesh import Mesh

ROWS = 3_000
FRAME = pd.DataFrame(
    {
        "id": range(ROWS),
        "price": [number / 4 for number in range(ROWS)],
        "name": [f'name "{number}", of\nmany' if number % 7 == 0 else f"name {number}" for number in range(ROWS)],
    }
)
DOUBLE = """
    def run(mini_batch):
        assert list(mini_batch.columns) == ["id", "price", "name"], list(mini_batch.columns)
        return mini_batch.assign(double=mini_batch["price"] * 2)
"""
EXPECTED = FRAME.assign(double=FRAME["price"] * 2)


def write_table(folder: Path, kind: str) -> Path:
    """FRAME in two files of one kind."""
    folder.mkdir()
    halves = [FRAME.iloc[: ROWS // 2], FRAME.iloc[ROWS // 2 :]]
    for number, half in enumerate(halves):
        path = folder / f"part-{number}.{kind}"
        if kind == "csv":
            half.to_csv(path, index=False)
        elif kind == "parquet":
            pq.write_table(pa.Table.from_pandas(half, preserve_index=False), path, row_group_size=400)
        else:
            half.to_json(path, orient="records", lines=True)
    return folder


def read_table(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path)
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.jsonl"])
def test_each_format_goes_in_and_out(mesh: Mesh, tmp_path: Path, kind: str, output: str) -> None:
    job = succeeded(
        run_job(
            mesh.address,
            write_script(tmp_path, DOUBLE),
            write_table(tmp_path / "in", kind),
            tmp_path / "out",
            mini_batch_size="4kb",
            append_row_file_name=output,
        )
    )
    pd.testing.assert_frame_equal(read_table(Path(job.output_path)), EXPECTED, check_dtype=False)
    assert job.progress.planned_items == job.progress.rows == ROWS
    assert job.progress.planned_mini_batches > 4
    adds_up(job)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_table_into_text_is_what_a_loop_over_its_slices_writes(mesh: Mesh, tmp_path: Path, kind: str) -> None:
    script = write_script(
        tmp_path, "def run(mini_batch):\n    return [f'{row.id} {row.price}' for row in mini_batch.itertuples()]\n"
    )
    job = succeeded(
        run_job(mesh.address, script, write_table(tmp_path / "in", kind), tmp_path / "out", mini_batch_size="1000 rows")
    )
    assert lines(job) == [f"{row.id} {row.price}" for row in FRAME.itertuples()]
    assert job.progress.planned_mini_batches == 4  # 1,500 rows a file, and none crosses one


def test_quoted_newlines_commas_and_quotes_never_cut_a_record(mesh: Mesh, tmp_path: Path) -> None:
    texts = ["plain", "a,b", "two\nlines", 'say "hi"', "cr\r\nlf", '"', ",", "\n", "ünï", "it's 5\" wide"] * 300
    path = tmp_path / "in.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(texts))
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch\n")
    job = succeeded(
        run_job(mesh.address, script, path, tmp_path / "out", mini_batch_size="1kb", append_row_file_name="out.jsonl")
    )
    rows = [json.loads(line) for line in lines(job)]
    assert rows == [{"id": number, "text": text} for number, text in enumerate(texts)]
    assert job.progress.planned_mini_batches > 10


def test_gzip_tsv_without_header_is_one_slice(mesh: Mesh, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "in.tsv.gz", "wt") as file:
        file.write("1\tx\n2\ty\n")
    script = write_script(
        tmp_path, "def run(mini_batch):\n    return [list(row) for row in mini_batch.values.tolist()]\n"
    )
    job = succeeded(run_job(mesh.address, script, tmp_path / "in.tsv.gz", tmp_path / "out", csv_header="absent"))
    assert lines(job) == ["[1, 'x']", "[2, 'y']"]


def test_types_are_the_same_in_each_mini_batch_and_can_be_given(mesh: Mesh, tmp_path: Path) -> None:
    rows = [f"{number},{'' if number == 900 else number},{number:04}" for number in range(1000)]
    (tmp_path / "in.csv").write_text("\n".join(["id,gap,code", *rows]) + "\n")
    script = write_script(
        tmp_path, "def run(mini_batch):\n    return [str(dict(mini_batch.dtypes.astype(str)))] * len(mini_batch)\n"
    )
    job = succeeded(
        run_job(
            mesh.address,
            script,
            tmp_path / "in.csv",
            tmp_path / "out",
            mini_batch_size="100 rows",
            csv_types={"code": "string"},
        )
    )
    (kinds,) = set(lines(job))
    assert "'id': 'int64'" in kinds
    assert "'gap': 'float64'" in kinds
    assert "'code': 'int64'" not in kinds


def test_rows_that_cannot_be_read_are_named_and_the_others_go_on(mesh: Mesh, tmp_path: Path) -> None:
    rows: list[bytes] = [f"{number},{number}.5".encode() for number in range(1000)]
    rows[100] = b"100,1,2"
    rows[200] = b"200,\xff\xfe"
    (tmp_path / "in.csv").write_bytes(b"\n".join([b"id,price", *rows]) + b"\n")
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch['id'].tolist()\n")
    job = succeeded(
        run_job(
            mesh.address,
            script,
            tmp_path / "in.csv",
            tmp_path / "out",
            mini_batch_size="300 rows",
            error_threshold=2,
            csv_types={"price": "float64"},
        )
    )
    assert lines(job) == [str(number) for number in range(1000) if number not in (100, 200)]
    named = failed_items(job)
    assert [(line["item"]["line"], line["kind"]) for line in named] == [
        (102, "UNREADABLE_ROW"),
        (202, "UNREADABLE_ROW"),
    ]
    assert {line["item"]["file"] for line in named} == {str(tmp_path / "in.csv")}
    assert job.progress.failed_mini_batches == 0
    adds_up(job)


def test_a_file_of_another_kind_and_a_damaged_one_are_one_failed_item_each(mesh: Mesh, tmp_path: Path) -> None:
    folder = write_table(tmp_path / "in", "parquet")
    (folder / "part-2.parquet").write_bytes(b"PAR1 not really")
    (folder / "part-3.csv").write_text("id\n1\n")
    script = write_script(tmp_path, "def run(mini_batch):\n    return mini_batch['id'].tolist()\n")
    job = succeeded(run_job(mesh.address, script, folder, tmp_path / "out", error_threshold=2))
    assert len(lines(job)) == ROWS
    assert [os.path.basename(line["item"]) for line in failed_items(job)] == ["part-2.parquet", "part-3.csv"]
    adds_up(job)


def test_a_file_without_rows_is_no_mini_batch_and_is_listed(mesh: Mesh, tmp_path: Path) -> None:
    folder = write_table(tmp_path / "in", "csv")
    (folder / "empty.csv").write_text("id,price,name\n")
    job = succeeded(run_job(mesh.address, write_script(tmp_path, DOUBLE), folder, tmp_path / "out"))
    assert job.progress.planned_items == ROWS
    assert str(folder / "empty.csv") in json.dumps(summary(job))


def test_columns_are_the_union_and_types_are_joined(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("n\n" + "\n".join(str(number) for number in range(6)) + "\n")
    script = write_script(
        tmp_path,
        """
        def run(mini_batch):
            first = int(mini_batch["n"].iloc[0])
            rows = {0: {"a": 1, "b": None}, 2: {"a": 1.5, "c": "x"}, 4: {"b": "text", "c": 7}}[first]
            return [rows] * len(mini_batch)
        """,
    )
    outputs: dict[str, Any] = {}
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        job = succeeded(
            run_job(
                mesh.address,
                script,
                tmp_path / "in.csv",
                tmp_path / name.replace(".", "-"),
                mini_batch_size="2 rows",
                append_row_file_name=name,
            )
        )
        outputs[name] = Path(job.output_path)
        assert "c" in json.dumps(summary(job)["columns_joined_to_string"])
    table = pq.read_table(outputs["out.parquet"])
    assert table.column_names == ["a", "b", "c"]
    assert table.to_pylist()[2] == {"a": 1.5, "b": None, "c": "x"}
    assert table.to_pylist()[4] == {"a": None, "b": "text", "c": "7"}
    assert outputs["out.csv"].read_text().splitlines()[0].replace('"', "") == "a,b,c"
    assert json.loads(outputs["out.jsonl"].read_text().splitlines()[4])["c"] == "7"


@pytest.mark.timeout(180)
def test_each_of_a_million_rows_comes_back_once(mesh: Mesh, tmp_path: Path) -> None:
    count = 1_000_000
    table = pa.table({"id": pa.array(range(count)), "value": pa.array([1.5] * count)})
    pyarrow.csv.write_csv(table, tmp_path / "in.csv")
    script = write_script(
        tmp_path, "def run(mini_batch):\n    return mini_batch.assign(value=mini_batch['value'] * 2)\n"
    )
    job = succeeded(
        run_job(
            mesh.address,
            script,
            tmp_path / "in.csv",
            tmp_path / "out",
            patience=150,
            append_row_file_name="out.csv",
        )
    )
    back = pyarrow.csv.read_csv(job.output_path)
    assert back["id"].to_pylist() == list(range(count))
    assert set(back["value"].to_pylist()) == {3.0}
    assert job.progress.succeeded_items == count
