"""What an experienced programmer writes without any framework: processes, a queue of pieces, one output file.

the parent: cut at line ends, or row groups ─▶ workers: read, function, text ─▶ the parent: one file, in order
"""

from __future__ import annotations

import io
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import Pool
from typing import TYPE_CHECKING, Any

import classify
import given as inputs
import pandas as pd
import protocol
import pyarrow as pa
import two_columns
from pyarrow import csv, parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: A part of a table: (begin, end) in bytes of a CSV file, (number of a row group, 0) of a Parquet file.
Piece = tuple[int, int]


def rows(given: dict[str, Any]) -> Any:
    """Read and written by pyarrow; the parent writes what the workers send it."""
    return _rows(given, _bytes, lambda file, piece: file.write(piece))


def rows_pandas(given: dict[str, Any]) -> Any:
    """Read and written by pandas alone; the parent writes what the workers send it."""
    return _rows(given, _text, lambda file, piece: file.write(piece))


def rows_parts(given: dict[str, Any]) -> Any:
    """Read and written by pyarrow; the workers write part files, and the kernel joins them."""
    return _rows(given, _part, _joined)


@contextmanager
def _rows(
    given: dict[str, Any], work: Callable[[str, str, Piece], Any], take: Callable[[Any, Any], object]
) -> Iterator[protocol.Round]:
    output = given["output"]
    with ProcessPoolExecutor(given["workers"]) as pool:

        def run(table: str, size: int) -> None:
            with open(output, "wb", buffering=0) as file:
                file.write(b"id,total\n")
                for done in [pool.submit(work, table, output, piece) for piece in _pieces(table, size)]:
                    take(file, done.result())

        run(given["small"], 2**12)
        yield lambda: run(given["table"], given["piece"])


def _pieces(table: str, size: int) -> Iterator[Piece]:
    """Row groups, or about so many bytes up to a line end, without the header line."""
    if table.endswith(".parquet"):
        yield from ((number, 0) for number in range(parquet.ParquetFile(table).num_row_groups))
        return
    with open(table, "rb") as file:
        file.readline()
        begin, end = file.tell(), os.path.getsize(table)
        while begin < end:
            file.seek(min(begin + size, end))
            file.readline()
            yield begin, file.tell()
            begin = file.tell()


def _read(table: str, piece: Piece) -> bytes:
    with open(table, "rb") as file:
        names = file.readline()
        file.seek(piece[0])
        return names + file.read(piece[1] - piece[0])


def _text(table: str, _output: str, piece: Piece) -> bytes:
    if table.endswith(".parquet"):
        frame = parquet.ParquetFile(table).read_row_group(piece[0]).to_pandas()
    else:
        frame = pd.read_csv(io.BytesIO(_read(table, piece)))
    return two_columns.run(frame).to_csv(header=False, index=False).encode()


def _bytes(table: str, _output: str, piece: Piece) -> bytes:
    written = io.BytesIO()
    _write(table, piece, written)
    return written.getvalue()


def _part(table: str, output: str, piece: Piece) -> str:
    part = f"{output}.{piece[0]}"
    _write(table, piece, part)
    return part


def _write(table: str, piece: Piece, into: Any) -> None:
    if table.endswith(".parquet"):
        frame = parquet.ParquetFile(table).read_row_group(piece[0], use_threads=False).to_pandas(use_threads=False)
    else:
        options = csv.ReadOptions(use_threads=False, block_size=2**24)
        frame = csv.read_csv(io.BytesIO(_read(table, piece)), read_options=options).to_pandas(use_threads=False)
    result = pa.Table.from_pandas(two_columns.run(frame), preserve_index=False, nthreads=1)
    csv.write_csv(result, into, csv.WriteOptions(include_header=False))


def _joined(file: Any, part: str) -> None:
    """Appends a part file and removes it."""
    with open(part, "rb") as source:
        left = os.path.getsize(part)
        while left:
            left -= os.sendfile(file.fileno(), source.fileno(), None, left)
    os.unlink(part)


@contextmanager
def files(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """Images in lumps of some mini-batches, as a pool takes many small things best; the parent writes."""
    with Pool(given["workers"], classify.init) as pool:

        def run(some: list[str]) -> None:
            with open(given["output"], "w") as file:
                results = pool.imap(classify.run, _mini_batches(some), chunksize=16)
                file.writelines("".join(f"{line}\n" for line in lines) for lines in results)

        def folders(count: int) -> list[str]:
            return sorted(entry.path for entry in os.scandir(given["images"]))[:count]

        run(folders(1))
        yield lambda: run(folders(given["folders"]))


def _mini_batches(folders: list[str]) -> Iterator[list[str]]:
    for folder in folders:
        paths = sorted(entry.path for entry in os.scandir(folder))
        yield from (paths[at : at + inputs.SIZE] for at in range(0, len(paths), inputs.SIZE))


if __name__ == "__main__":
    protocol.serve(["pandas", "pyarrow"], rows=rows, rows_pandas=rows_pandas, rows_parts=rows_parts, files=files)
