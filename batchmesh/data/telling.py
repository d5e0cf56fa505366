"""Answers what is asked of a table file: the one place that looks into it, whoever asks.

Imports a format's libraries when the first file of it comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.data.plan_slices import Looked, PlanSlice, Told, Wanted
from batchmesh.data.slices import UnreadableFile

if TYPE_CHECKING:
    from batchmesh.data.plan_slices import TableFile
    from batchmesh.data.sources import Source
    from batchmesh.data.text import TextTable


def tell(source: Source, file: TableFile, wanted: Wanted | PlanSlice) -> Told:
    """`file` says of what size and stamp the source is.

    Errors: UnreadableFile, and what the source raises beside OSError.
    """
    size, stamp = file.size or 0, file.stamp
    if file.kind == "parquet":
        from batchmesh.data import parquet

        return Told(size, stamp, footer=parquet.footer(source))
    from batchmesh.data import text

    with text.damage_as(UnreadableFile, source.path):
        if isinstance(wanted, PlanSlice):
            from batchmesh.data.scanning import scan

            return Told(size, stamp, scanned=scan(source, wanted, _delimiter(file)))
        table = _table(source, file)
        if table is None:
            return Told(size, stamp, Looked(False, "", None))
        if wanted is Wanted.COLUMNS:
            return Told(size, stamp, columns=text.columns_of(table))
        if wanted is Wanted.CUTS:
            cuts, columns = text.cuts_of_stream(table, table.body)
            return Told(size, stamp, columns=columns, cuts=cuts)
        return Told(size, stamp, Looked(table.zipped, _delimiter(file), table.body))


def _table(source: Source, file: TableFile) -> TextTable | None:
    if file.kind == "jsonl":
        from batchmesh.data import jsonl

        return jsonl.table(source, {})
    from batchmesh.data import csv

    return csv.table(source, csv.CsvOptions(file.header))


def _delimiter(file: TableFile) -> str:
    if file.kind == "jsonl":
        return ""
    from batchmesh.data import csv

    return csv.delimiter_of(file.path)
