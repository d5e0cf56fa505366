"""What the database has for a job's report: outcomes beside their plan, in input order, page by page."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .store import Database


class ReportRow(NamedTuple):
    """One outcome of a mini-batch, or of a part of it, beside its plan (attempt 0 where it was never run)."""

    idx: int
    items: int
    payload: bytes
    planned_failure: bytes | None
    first: int
    #: Of this part.
    part_items: int
    level: int
    runs: int
    tries: int
    attempt: int
    segment: str
    offset: int
    length: int
    rows: int
    succeeded: int
    failed: int
    node: str
    process: int
    started_us: int
    run_us: int
    elapsed_us: int
    failure: bytes | None
    #: A failure of which nothing more is to come.
    final: int


#: The outcome of a whole mini-batch that succeeded: the fields of a ProcessedRow before its status, those of a place
#: (segment, offset, length, attempt), and a 0. Bare, as a commit takes them by columns.
PlainRow = tuple[Any, ...]


def plain_rows(db: Database, number: int, after: int, count: int) -> list[PlainRow]:
    """The next outcomes behind mini-batch `after` in input order, `count` at most, up to the first of a mini-batch that
    failed or was split."""
    found: list[PlainRow] = db.execute(_PLAIN, (number, after, count)).fetchall()
    end = next((at for at, row in enumerate(found) if row[-1]), len(found))
    return found[:end]


_PLAIN = (
    "SELECT idx, tries, node, process, started_us, items, succeeded, failed, elapsed_us, run_us, segment, offset, "
    "length, attempt, level > 0 OR failure IS NOT NULL FROM outcomes WHERE job = ? AND idx > ? "
    "ORDER BY idx, first LIMIT ?"
)


def report_rows(db: Database, number: int, after: int, count: int) -> list[list[ReportRow]]:
    """The next mini-batches behind index `after`, in input order, that ran or could not: the rows of each together.

    There are at most `count` rows, unless one mini-batch has more.
    """
    rows = list(map(ReportRow._make, db.execute(_REPORT, (number, after, count))))
    groups = [list(group) for _, group in groupby(rows, key=itemgetter(0))]
    if len(rows) < count:
        return groups
    if len(groups) > 1:  # the last one may go on behind the page
        return groups[:-1]
    return [list(map(ReportRow._make, db.execute(_REPORT_ONE, (number, rows[0].idx))))]


_OF_REPORT = (
    "SELECT m.idx, m.items, m.payload, m.failure, coalesce(o.first,0), coalesce(o.items,m.items), coalesce(o.level,0), "
    "coalesce(o.runs,0), coalesce(o.tries,0), coalesce(o.attempt,0), coalesce(o.segment,''), coalesce(o.offset,0), "
    "coalesce(o.length,0), coalesce(o.rows,0), coalesce(o.succeeded,0), coalesce(o.failed,0), coalesce(o.node,''), "
    "coalesce(o.process,0), coalesce(o.started_us,0), coalesce(o.run_us,0), coalesce(o.elapsed_us,0), o.failure, "
    "coalesce(o.final,0) FROM mini_batches m LEFT JOIN outcomes o ON o.job = m.job AND o.idx = m.idx "
)
_REPORT = (
    f"{_OF_REPORT} WHERE m.job = ? AND m.idx > ? AND (o.idx IS NOT NULL OR m.failure IS NOT NULL) "
    "ORDER BY m.idx, o.first LIMIT ?"
)
_REPORT_ONE = f"{_OF_REPORT} WHERE m.job = ? AND m.idx = ? ORDER BY o.first"
