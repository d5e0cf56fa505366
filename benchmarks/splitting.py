"""How fast the mini-batches of a table are found: exact ends of rows, and their numbers.

ours: file ─▶ header, types from a sample, every row's end ─▶ slices        (Parquet: its footers alone)
      in plan slices: as nodes look into large files, whose parts begin in a state that they do not know
bare: the same file ─▶ read into one buffer, its LFs counted by numpy       (Parquet: its footer read by pyarrow)

A round's seconds are CPU seconds of one core, its count the MB of the file, which lies in the page cache.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from measured import Claim, Measured, Round, Spread, check, interleaved
from plan_slices import looked_into
from pyarrow import csv as arrow_csv
from pyarrow import parquet as arrow_parquet
from tables import columns

from batchmesh.data import csv, jsonl, parquet
from batchmesh.data.size import MiniBatchSize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from place import Place

    from batchmesh.data.slices import Piece

#: Files by the names of their ways; what is quoted has commas, newlines and quotes within its fields.
FILES = {
    "unquoted CSV": "unquoted.csv",
    "quoted CSV": "quoted.csv",
    "CSV with CR LF": "returns.csv",
    "JSON lines": "lines.jsonl",
    "Parquet": "rows.parquet",
}
_BARE, _PARTS = "{}, bare", "{}, in plan slices"
#: A mini-batch; rows, written again and again until a file is as large as it is to be; bytes of a bare read.
_SIZE, _ROWS, _BUFFER = MiniBatchSize(4 * 2**20, "bytes"), 100_000, 2**18


def make(folder: Path, megabytes: int) -> None:
    """All files, each of at least so many MB."""
    folder.mkdir(parents=True)
    table = columns(0, _ROWS)
    said = pa.array([f'"{name}", he said,\nand went' for name in table["country"].to_pylist()])
    quoted = table.set_column(table.column_names.index("state"), "state", said)
    unquoted = _text(table, "none")
    texts = {
        "unquoted.csv": unquoted,
        "quoted.csv": _text(quoted, "all_valid"),
        "returns.csv": unquoted.replace(b"\n", b"\r\n"),
        "lines.jsonl": b"\n" + table.to_pandas().to_json(orient="records", lines=True, date_format="iso").encode(),
    }
    for name, text in texts.items():
        header, _, body = text.partition(b"\n")
        with (folder / name).open("wb") as file:
            file.write(header + b"\n" if header else b"")
            for _ in range(-(-megabytes * 10**6 // len(body))):
                file.write(body)
    with arrow_parquet.ParquetWriter(folder / "rows.parquet", table.schema) as writer:
        for _ in range(-(-megabytes * 10**6 // len(unquoted))):
            writer.write_table(table)


def _text(table: pa.Table, quoting: str) -> bytes:
    sink = pa.BufferOutputStream()
    arrow_csv.write_csv(table, sink, arrow_csv.WriteOptions(quoting_style=quoting))
    text: bytes = sink.getvalue().to_pybytes()
    return text


def measure(place: Place, megabytes: int) -> Measured:
    """Each kind of file and its bare reading in turn; each round's slices are checked to hold every row once."""
    folder = place.made(f"splitting-{megabytes}", partial(make, megabytes=megabytes))
    ways: dict[str, Callable[[], Round]] = {}
    for name, file in FILES.items():
        ways[name] = partial(_split, folder / file)
        ways[_BARE.format(name)] = partial(_bare, folder / file)
        if name != "Parquet":
            ways[_PARTS.format(name)] = partial(looked_into, folder / file, _ROWS)
    for way in ways.values():
        way()
    return interleaved(ways, place.rounds)


def claims(measured: Measured) -> list[Claim]:
    """Target 7: splitting."""
    bounds = {"unquoted CSV": 1.0, "quoted CSV": 0.5, _PARTS.format("unquoted CSV"): 0.5}
    return [
        Claim(f"splitting of {name}", Spread.of([each.rate / 1000 for each in measured[name]]), bound, unit="GB/s")
        for name, bound in bounds.items()
    ]


def _split(path: Path) -> Round:
    begin = time.process_time()
    found = list(_pieces(path))
    seconds = time.process_time() - begin
    check(sum(piece.items for piece in found) % _ROWS == 0, f"the slices of {path.name} do not hold each row once")
    if "offset" in found[0].fields:
        ends = [piece.fields["offset"] + piece.fields["length"] for piece in found]
        starts = [piece.fields["offset"] for piece in found[1:]]
        check(ends == [*starts, path.stat().st_size], f"the slices of {path.name} do not follow each other")
    return Round(seconds, path.stat().st_size // 10**6)


def _pieces(path: Path) -> Iterator[Piece]:
    if path.suffix == ".csv":
        return csv.split(str(path), _SIZE, csv.CsvOptions())
    return jsonl.split(str(path), _SIZE, {}) if path.suffix == ".jsonl" else parquet.split(str(path), _SIZE)


def _bare(path: Path) -> Round:
    begin = time.process_time()
    found = arrow_parquet.read_metadata(path).num_rows if path.suffix == ".parquet" else _line_ends(path)
    seconds = time.process_time() - begin
    check(found >= _ROWS, f"{path.name} is not what was written")
    return Round(seconds, path.stat().st_size // 10**6)


def _line_ends(path: Path) -> int:
    buffer, found = np.empty(_BUFFER, np.uint8), 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer.data):
            found += int(np.count_nonzero(buffer[:count] == ord("\n")))
    return found
