"""Rows of a CSV table through a small pandas function into one CSV: by the mesh, and by two processes by hand.

mesh:     SubmitJob ─▶ split, infer types, read, run(), render, join ─▶ SUCCEEDED
by hand:  cut at line ends ─▶ ProcessPoolExecutor: pandas.read_csv, function, to_csv ─▶ the parent writes one file
"""

from __future__ import annotations

import io
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from measured import Round, check, interleaved
from pyarrow import csv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesh import Mesh

SCRIPT = Path(__file__).parent / "scripts" / "two_columns.py"
#: Bytes of a mini-batch, and of a piece by hand: a whole number of MiB.
PIECE = 2**20


def make_table(path: Path, rows: int) -> pa.Table:
    """Writes the input; returns the rows that the output has to have."""
    random = np.random.default_rng(0)
    ids = np.arange(rows)
    prices, quantities = random.integers(1, 10_000, rows) / 100, random.integers(1, 50, rows)
    csv.write_csv(pa.table({"id": ids, "price": prices, "quantity": quantities}), path)
    return pa.table({"id": ids, "total": prices * quantities})


def work(path: Path, begin: int, end: int) -> str:
    """One piece by hand: the lines of the result."""
    with path.open("rb") as file:
        file.seek(begin)
        rows = pd.read_csv(io.BytesIO(file.read(end - begin)), names=["id", "price", "quantity"])
    result = rows[["id"]].assign(total=rows["price"] * rows["quantity"])
    text: str = result.to_csv(header=False, index=False)
    return text


def pieces(path: Path) -> Iterator[tuple[int, int]]:
    """(begin, end) of pieces that end at line ends, without the header line."""
    with path.open("rb") as file:
        file.readline()
        begin, size = file.tell(), path.stat().st_size
        while begin < size:
            file.seek(min(begin + PIECE, size))
            file.readline()
            yield begin, file.tell()
            begin = file.tell()


def measure(mesh: Mesh, folder: Path, rows: int, workers: int, rounds: int) -> dict[str, list[Round]]:
    """Mesh and hand in turn, both warm, each checked to have given every row once and in order."""
    table, output = folder / "table.csv", folder / "output"
    expected = make_table(table, rows)
    settings = {
        "mini_batch_size": f"{PIECE // 2**20}MB",
        "process_count_per_node": workers,
        "append_row_file_name": "totals.csv",
    }
    with ProcessPoolExecutor(workers) as pool:

        def by_hand() -> Round:
            begin = time.perf_counter()
            with (folder / "by_hand.csv").open("w") as file:
                file.write("id,total\n")
                for future in [pool.submit(work, table, *piece) for piece in pieces(table)]:
                    file.write(future.result())
            seconds = time.perf_counter() - begin
            check(csv.read_csv(folder / "by_hand.csv").equals(expected), "the file written by hand differs")
            return Round(seconds, rows)

        def through_mesh() -> Round:
            before, begin = mesh.cpu_seconds(), time.perf_counter()
            job = mesh.run(SCRIPT, table, output, **settings)
            seconds, after = time.perf_counter() - begin, mesh.cpu_seconds()
            check(csv.read_csv(job.output_path).equals(expected), "the mesh's output differs")
            return Round(seconds, rows, {name: after[name] - before[name] for name in after})

        by_hand()
        mesh.run(SCRIPT, table, output, **settings)
        return interleaved({"mesh": through_mesh, "by hand": by_hand}, rounds)
