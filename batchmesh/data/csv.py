"""CSV and TSV: rows are cut by byte ranges, read by pyarrow, and bad ones named.

Slice fields: file, size (its bytes when it was planned), offset, length (bytes, of what a gzip file unpacks to), line
and row (of its first byte, from 1), rows (bad ones included), columns ([name, type] each), delimiter, zipped and
unterminated where true.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from batchmesh.data import csv_parser, text
from batchmesh.data.blocks import blocks, is_gzip, open_table
from batchmesh.data.columns import Column, distinct, with_given
from batchmesh.data.places import Place
from batchmesh.data.records import CsvScanner
from batchmesh.data.sampling import LIMIT, whole_records
from batchmesh.data.slices import Batch, Piece, RowFailure, SliceFields, UnreadableFile, UnreadableSlice, changed
from batchmesh.data.sources import local

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

    from batchmesh.data.size import MiniBatchSize
    from batchmesh.data.sources import Source

#: Bytes of a record without end that are looked at: the empty lines before it.
_SHOWN = 1024 * 1024
#: Bytes at the start of a piece that tell whether it begins within quotes, if they hold a record.
_JUDGED = 32 * 1024


@dataclass(frozen=True)
class CsvOptions:
    """`header`: the first record names the columns (else Column1, …). `types` overrules the inferred ones by name."""

    header: bool = True
    types: Mapping[str, str] = field(default_factory=dict)


def split(path: str, size: MiniBatchSize, options: CsvOptions, after: dict[str, int] | None = None) -> Iterator[Piece]:
    """The slices of one file in order, from `after` (an earlier Piece's) on; none if it has no rows.

    Errors: UnreadableFile.
    """
    with text.damage_as(UnreadableFile, path):
        found = table(local(path), options)
        if found is not None:
            yield from text.pieces(found, size, after)


@dataclass(frozen=True)
class Head:
    """What the start of a file tells; no names if there is nothing in it."""

    zipped: bool
    delimiter: str
    names: list[str]
    body: Place


def read_head(source: Source, header: bool) -> Head:
    """Errors: UnreadableFile if the first record is no header; OSError and its like."""
    path = source.path
    zipped, delimiter = is_gzip(source), delimiter_of(path)
    with open_table(source, zipped) as file:
        mark = text.length_of_mark(path, file.read(3))
        file.seek(mark)
        record, behind = _first_record(file, delimiter, Place(mark, 1, 1), path)
    fields = csv_parser.fields_of(record, delimiter) if record else []
    if not header:
        names = [f"Column{index + 1}" for index in range(len(fields))]
        return Head(zipped, delimiter, names, Place(mark, 1, 1))
    return Head(zipped, delimiter, _names_of(fields, path), behind)


def read(fields: SliceFields) -> Batch:
    """The slice's rows as a DataFrame in file order, and its bad rows.

    Errors: UnreadableSlice if the file is gone or is no longer what was planned.
    """
    columns = [Column(*column) for column in fields["columns"]]
    if "unterminated" in fields:
        return Batch(_empty(columns), [_unterminated(fields)])
    from batchmesh.data.csv_misfits import separate

    data = text.load(fields)
    with text.damage_as(UnreadableSlice, fields["file"]):
        table, bad = separate(data, columns, fields["delimiter"])
    if table.num_rows + len(bad) != fields["rows"]:
        raise changed(fields)
    failures = []
    if bad:
        records = text.Records(data, CsvScanner(fields["delimiter"]))
        failures = [text.failure(fields, records.line(row.row), row.row, row.column, row.error) for row in bad]
    return Batch(text.to_pandas(table, columns), failures)


def table(source: Source, options: CsvOptions) -> text.TextTable | None:
    """None if there is nothing in it. Errors: as of read_head."""
    head = read_head(source, options.header)
    if not head.names:
        return None

    def infer(sample: bytes) -> list[Column]:
        return with_given(csv_parser.infer(sample, head.names, head.delimiter), options.types)

    return text.TextTable(
        source,
        head.zipped,
        head.body,
        partial(CsvScanner, head.delimiter),
        partial(_whole_records, width=len(head.names), delimiter=head.delimiter),
        infer,
        {"kind": "csv", "delimiter": head.delimiter},
    )


def _whole_records(piece: bytes, is_first: bool, width: int, delimiter: str) -> bytes:
    """Of a piece from the middle nobody knows whether it begins within quotes: what parses better is taken."""

    def wrong(inside: bool) -> float:
        start = whole_records(piece[:_JUDGED], CsvScanner(delimiter, inside), False)
        records = start or whole_records(piece, CsvScanner(delimiter, inside), False)
        return csv_parser.ragged_share(records, width, delimiter)

    doubtful = not is_first and b'"' in piece
    inside = doubtful and (outside := wrong(False)) > 0 and wrong(True) < outside
    return whole_records(piece, CsvScanner(delimiter, inside), is_first)


def delimiter_of(path: str) -> str:
    """By its name."""
    name = os.path.basename(path).lower()
    return "\t" if name.endswith((".tsv", ".tsv.gz")) else ","


def _first_record(file: object, delimiter: str, start: Place, path: str) -> tuple[bytes, Place]:
    """The first record that is not empty, and the place behind it; b"" if there is none."""
    scanner, seen, line = CsvScanner(delimiter), b"", start.line
    for block in blocks(file, 64 * 1024):  # type: ignore[arg-type]
        marks = scanner.scan(block)
        end = int(marks.row_ends.argmax()) + 1
        if marks.row_ends[end - 1]:
            line += int(marks.line_ends[:end].sum())
            return seen + block[:end].tobytes(), Place(start.offset + len(seen) + end, line, start.row)
        line += int(marks.line_ends.sum())
        seen += block.tobytes()
        if len(seen) > LIMIT:
            raise UnreadableFile(f"{path} cannot be read: its first record does not end within 16 MB")
    if scanner.inside:
        raise UnreadableFile(f"{path} cannot be read: a quoted field begins in its first record and never ends")
    return seen if scanner.is_open else b"", Place(start.offset + len(seen), line, start.row)


def _names_of(fields: list[bytes], path: str) -> list[str]:
    try:
        return distinct([name.decode() for name in fields])
    except UnicodeDecodeError:
        raise UnreadableFile(f"{path} cannot be read: its header is not UTF-8; convert the file to UTF-8") from None


def _unterminated(fields: SliceFields) -> RowFailure:
    """It may be as large as the file: only what shows where it begins is read."""
    data = text.load({**fields, "length": min(fields["length"], _SHOWN)})
    line = text.Records(data, CsvScanner(fields["delimiter"])).line(0)
    return text.failure(fields, line, 0, None, "a quoted field begins in this row and never ends")


def _empty(columns: list[Column]) -> pd.DataFrame:
    from batchmesh.data.csv_misfits import separate

    table, _ = separate(bytearray(b"\n"), columns, ",")
    return text.to_pandas(table, columns)
