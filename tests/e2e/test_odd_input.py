"""Input and results at the edges: whole outputs are a plain loop's, and reports name what is missing from them."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.support.story import (
    adds_up,
    failed,
    failed_items,
    lines,
    run_job,
    succeeded,
    summary,
    write_files,
    write_script,
)

if TYPE_CHECKING:
    from tests.support.mesh import Mesh

SAME = "def run(mini_batch):\n    return mini_batch\n"


def test_a_report_of_thousands_of_long_errors_is_written(mesh: Mesh, tmp_path: Path) -> None:
    count = 2500
    write_files(tmp_path / "in", count)
    script = write_script(tmp_path, "def run(mini_batch):\n    raise ValueError('é' * 1900)\n")
    job = failed(
        run_job(
            mesh.address,
            script,
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=1,
            error_threshold=-1,
            run_max_try=1,
        )
    )
    adds_up(job)
    assert len(failed_items(job)) == count
    processed = pd.read_csv(Path(job.report_path) / "processed_mini-batches.csv")
    assert processed["failed"].sum() == count
    assert processed["error"].str.len().min() > 1900


def test_tables_whose_names_are_no_utf_8_are_read_and_named(mesh: Mesh, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    tables = {b"\xff-bad": b"\xff\xfex\0", b"\xff-empty": b"x\n", b"\xff-good": b"x\n1\n2,3\n4\n"}
    for name, data in tables.items():
        with open(os.path.join(os.fsencode(folder), name + b".csv"), "wb") as file:
            file.write(data)
    job = succeeded(
        run_job(
            mesh.address,
            write_script(tmp_path, SAME),
            folder,
            tmp_path / "out",
            input_type="csv",
            error_threshold=2,
            append_row_file_name="out.csv",
        )
    )
    assert lines(job) == ["x", "1", "4"]
    adds_up(job)
    whole, row = failed_items(job)
    assert os.fsencode(whole["item"]) == os.path.join(os.fsencode(folder), b"\xff-bad.csv")
    assert (os.path.basename(os.fsencode(row["item"]["file"])), row["item"]["line"]) == (b"\xff-good.csv", 3)
    assert summary(job)["files_without_rows"] == {"count": 1, "first": [f"{folder}/\\udcff-empty.csv"]}


def test_results_with_empty_dicts_become_a_parquet_file(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 4)
    script = write_script(tmp_path, "def run(mini_batch):\n    return [{'tags': {}, 'n': 1} for _ in mini_batch]\n")
    job = succeeded(
        run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", append_row_file_name="out.parquet")
    )
    assert pq.read_table(job.output_path).to_pylist() == [{"tags": "{}", "n": 1}] * 4


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.jsonl"])
def test_files_of_different_columns_and_orders_are_joined_by_name(mesh: Mesh, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("x,y\n1,one\n2,two\n")
    (folder / "b.csv").write_text("y,x\nthree,3\n")
    (folder / "c.csv").write_text("x,x,z\n4,5,true\n")
    job = succeeded(
        run_job(mesh.address, write_script(tmp_path, SAME), folder, tmp_path / "out", append_row_file_name=name)
    )
    path = Path(job.output_path)
    found: Any
    if name == "out.jsonl":
        found = [json.loads(line) for line in lines(job)]
    else:
        table = pq.read_table(path).to_pandas() if name == "out.parquet" else pd.read_csv(path)
        found = table.astype(object).where(table.notna(), None).to_dict("records")
    nothing = {"x.1": None, "z": None}
    assert found == [
        {"x": 1, "y": "one", **nothing},
        {"x": 2, "y": "two", **nothing},
        {"x": 3, "y": "three", **nothing},
        {"x": 4, "y": None, "x.1": 5, "z": True},
    ]


@pytest.mark.parametrize(
    "result",
    [
        "[None if n % 2 else n / 3 for n in mini_batch['n']]",
        "[{'k': n} for n in mini_batch['n']]",
        "np.outer(mini_batch['n'], [1.5, 2])",
        "pd.Series(list(mini_batch['n']), index=range(9, 9 + len(mini_batch)))",
        "mini_batch.set_index('n', drop=False).assign(text='a \"b\"', empty='', gap=None)",
        "pd.DataFrame(index=mini_batch.index)",
        "(str(n) + chr(10) for n in mini_batch['n']) and tuple(mini_batch['n'])",
    ],
)
def test_text_is_what_str_and_to_csv_write_in_a_plain_loop(mesh: Mesh, tmp_path: Path, result: str) -> None:
    (tmp_path / "in.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(10)))
    body = f"import numpy as np\nimport pandas as pd\n\ndef run(mini_batch):\n    return {result}\n"
    script = write_script(tmp_path, body)
    job = succeeded(run_job(mesh.address, script, tmp_path / "in.csv", tmp_path / "out", mini_batch_size="3 rows"))
    namespace: dict[str, Any] = {}
    exec(textwrap.dedent(body), namespace)
    table, expected = pd.read_csv(tmp_path / "in.csv"), ""
    for start in range(0, 10, 3):
        rows = namespace["run"](table.iloc[start : start + 3].reset_index(drop=True))
        if isinstance(rows, pd.DataFrame):
            expected += rows.to_csv(sep=" ", header=False, index=False)
        else:
            expected += "".join(f"{row}\n" for row in rows)
    assert Path(job.output_path).read_text() == expected
