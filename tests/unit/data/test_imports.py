"""What reading and splitting import: each in an interpreter of its own, as a worker or a scheduler begins."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

_HEAVY = ("numpy", "pandas", "pyarrow", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.compute")

_READ_FILES = """
from batchmesh.data.reading import read_slice
from batchmesh.rows.rendering import renderer_for
renderer_for("rows.txt").render(read_slice({"kind": "files", "files": ["/in/a", "/in/b"]}).items)
"""
_SPLIT = """
import importlib
from batchmesh.data.csv import CsvOptions
from batchmesh.data.size import MiniBatchSize
format = importlib.import_module("batchmesh.data.NAME")
more = {"csv": [CsvOptions()], "jsonl": [{}], "parquet": []}["NAME"]
assert len(list(format.split("PATH", MiniBatchSize(1, "rows"), *more))) == 2
"""


def heavy_imports(code: str) -> set[str]:
    tell = f"import sys; print(*[name for name in {_HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_worker_of_a_files_job_imports_no_library_of_tables() -> None:
    assert heavy_imports(_READ_FILES) == set()


@pytest.mark.parametrize(("kind", "parquet"), [("csv", set()), ("jsonl", set()), ("parquet", {"pyarrow.parquet"})])
def test_to_split_a_table_takes_no_pandas(tmp_path: Path, kind: str, parquet: set[str]) -> None:
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"a": [1, 2]}), path)
    else:
        path.write_bytes(b"a\n1\n2\n" if kind == "csv" else b'{"a": 1}\n{"a": 2}\n')
    found = heavy_imports(_SPLIT.replace("NAME", kind).replace("PATH", str(path)))
    assert found == {"numpy", "pyarrow"} | parquet
