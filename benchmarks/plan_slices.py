"""How fast a node looks into parts of a table, for each state that they may begin in; folded as in the scheduler.

file ─▶ parts ─scan, one after the other─▶ row ends for each state ─▶ Fold ─▶ cuts, which hold each row once
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from measured import Round, check

from batchmesh.data import csv, jsonl
from batchmesh.data.folding import Fold
from batchmesh.data.plan_slices import Border, Grid, PlanSlice
from batchmesh.data.scanning import scan
from batchmesh.data.sources import local

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes of a part and of a mini-batch: a small file, too, has many parts that begin in an unknown state.
_LENGTH, _STEP = 8 * 2**20, 4 * 2**20


def looked_into(path: Path, rows: int) -> Round:
    """CPU seconds of one core, and MB. The file holds a multiple of so many rows."""
    begin = time.process_time()
    source = local(str(path))
    table = jsonl.table(source, {}) if path.suffix == ".jsonl" else csv.table(source, csv.CsvOptions())
    assert table is not None, "it has a header"
    start, end = table.body, path.stat().st_size
    rule = Grid(start.offset, _STEP)
    fold, cuts = Fold(rule, start), []
    for at in range(start.offset, end, _LENGTH):
        border = Border.RECORD if at == start.offset else None
        wanted = PlanSlice(at, min(at + _LENGTH, end), border, rule)
        cuts += fold.take(scan(source, wanted, "" if path.suffix == ".jsonl" else ","))
    cuts += fold.end()
    seconds = time.process_time() - begin
    check(sum(cut.rows for cut in cuts) % rows == 0, f"the cuts of {path.name} do not hold each row once")
    check(cuts[-1].end.offset == end, f"the cuts of {path.name} do not reach its end")
    return Round(seconds, end // 10**6)
