"""Rows of a table through a small pandas function into one CSV: by the mesh, by two processes by hand, and by others.

mesh:     SubmitJob ─▶ split, infer types, read, run(), render, join ─▶ SUCCEEDED, one file in order
by hand:  cut at line ends, or row groups ─▶ two processes: read, function, write ─▶ the parent makes one file
peer:     its reader ─▶ the function ─▶ its writer, part files in any order
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from measured import Claim, Measured, Round, Spread, check, interleaved, less, ratios
from mesh import Mesh
from pyarrow import csv, parquet

if TYPE_CHECKING:
    from collections.abc import Callable

    from peer import Peer
    from place import Place

SCRIPT = Path(__file__).parent / "scripts" / "two_columns.py"
WHOLE, LESS = "batchmesh", "batchmesh, less a small job"
#: The way of the target, and what else is done by hand: with the plain means of pandas, and with part files.
BY_HAND, PLAIN, PARTS = "by hand: pyarrow", "by hand: pandas", "by hand: pyarrow, part files joined"
PEERS = {"daft_frames": "Daft", "dask_distributed": "Dask", "ray_data": "Ray Data", "spark": "Spark"}
#: Rows of a row group, and of the table that warms up and is the small job.
_GROUP, _SMALL = 100_000, 1000
#: Bytes of a mini-batch: the mesh's, and of a piece by hand. Rows of a batch of Ray Data.
_PIECE_MB, _BATCH = 8, 100_000
_WORDS = ("delivered", "on its way home", "returned by the customer", "waiting for goods", "paid and packed")
_SPARK = (
    "id long, time timestamp, customer string, country string, price double, quantity long, weight double, state string"
)


def columns(first: int, rows: int) -> pa.Table:
    """The rows from `first` on; 84 bytes each as text, on average."""
    random = np.random.default_rng(first)
    ids = np.arange(first, first + rows)
    countries = np.array(["DE", "FR", "JP", "US", "BR"])[random.integers(0, 5, rows)]
    return pa.table(
        {
            "id": ids,
            "time": (1_767_225_600 + ids).astype("datetime64[s]"),
            "customer": [f"customer-{number:09}" for number in random.integers(0, 10**9, rows).tolist()],
            "country": countries,
            "price": random.integers(1, 100_000, rows) / 100,
            "quantity": random.integers(1, 50, rows),
            "weight": random.integers(1, 10**6, rows) / 10**5,
            "state": np.array(_WORDS)[random.integers(0, len(_WORDS), rows)],
        }
    )


def make(folder: Path, rows: int) -> None:
    """The table as CSV and as Parquet, a small one of each, and the rows that the output has to have."""
    folder.mkdir(parents=True)
    text = csv.WriteOptions(quoting_style="none")
    schema = columns(0, 1).schema
    with (
        csv.CSVWriter(folder / "table.csv", schema, write_options=text) as lines,
        parquet.ParquetWriter(folder / "table.parquet", schema) as groups,
    ):
        for first in range(0, rows, _GROUP):
            piece = columns(first, min(_GROUP, rows - first))
            lines.write_table(piece)
            groups.write_table(piece)
    small = columns(0, _SMALL)
    csv.write_csv(small, folder / "small.csv", text)
    parquet.write_table(small, folder / "small.parquet", row_group_size=_SMALL // 10)


def measure(place: Place, rows: int, kind: str) -> Measured:
    """All ways in turn, warm, each checked to have given every row once; those that make one file, in order."""
    made = place.made(f"tables-{rows}", partial(make, rows=rows))
    table, small = made / f"table.{kind}", made / f"small.{kind}"
    expected = _expected(made / "table.parquet")
    with Mesh(place.folder / "mesh", place.workers) as mesh:
        ways: dict[str, Callable[[], Round]] = {WHOLE: _through(mesh, place, table, rows, expected)}
        ways["a small job"] = _through(mesh, place, small, _SMALL, _expected(small))
        for title, workload in {BY_HAND: "rows", PLAIN: "rows_pandas", PARTS: "rows_parts"}.items():
            ways[title] = partial(_by, place.peers["by_hand"], workload, place, table, small, rows, expected)
        for name, title in PEERS.items():
            if name in place.peers:
                ways[title] = partial(_by, place.peers[name], "rows", place, table, small, rows, expected)
        measured = interleaved(ways, place.rounds)
    whole, small_job = measured.pop(WHOLE), measured.pop("a small job")
    return {WHOLE: whole, LESS: less(whole, small_job), **measured}


def claims(measured: Measured, kind: str) -> list[Claim]:
    """Target 2: tables."""
    outside = [sum(peak for name, peak in each.peaks.items() if name != "workers") / 1e6 for each in measured[WHOLE]]
    name = kind.upper() if kind == "csv" else kind.capitalize()
    times = ratios(measured[BY_HAND], measured[LESS])
    return [
        Claim(
            f"{name} to CSV: time, less a small job's, over that of two processes by hand",
            times,
            1.15,
            at_least=False,
            against=BY_HAND,
        ),
        Claim(f"{name} to CSV: memory outside the workers", Spread.of(outside), 300, at_least=False, unit="MB"),
    ]


def _through(mesh: Mesh, place: Place, table: Path, rows: int, expected: pa.Table) -> Callable[[], Round]:
    output = place.folder / "table_output"
    settings = {
        "mini_batch_size": f"{_PIECE_MB}MB",
        "process_count_per_node": place.workers,
        "append_row_file_name": "totals.csv",
    }
    mesh.run(SCRIPT, table.with_stem("small"), output, **settings)

    def work() -> Round:
        done, text = mesh.timed(rows, SCRIPT, table, output, **settings)
        check(_same(csv.read_csv(text), expected), "the mesh's output differs")
        return done

    return work


def _by(peer: Peer, workload: str, place: Place, table: Path, small: Path, rows: int, expected: pa.Table) -> Round:
    def right(output: Path) -> None:
        files = sorted(output.glob("*.csv")) if output.is_dir() else [output]
        found = pa.concat_tables([csv.read_csv(file) for file in files if file.stat().st_size])
        found = found if output.is_file() else found.sort_by("id")
        check(_same(found, expected), f"the output of {peer.name} differs")

    given = {"table": str(table), "small": str(small), "workers": place.workers, "spark_schema": _SPARK}
    return peer.round(right, rows, workload, piece=_PIECE_MB * 2**20, batch=_BATCH, **given)


def _expected(table: Path) -> pa.Table:
    """What the function gives for a table."""
    rows = parquet.read_table(table if table.suffix == ".parquet" else table.with_suffix(".parquet"))
    return pa.table({"id": rows["id"], "total": rows["price"].to_numpy() * rows["quantity"].to_numpy()})


def _same(found: pa.Table, expected: pa.Table) -> bool:
    """The same rows in the same order; the last digits of a text may differ from writer to writer."""
    return bool(
        found["id"].equals(expected["id"])
        and np.allclose(found["total"].to_numpy(), expected["total"].to_numpy(), rtol=1e-12, atol=0)
    )
