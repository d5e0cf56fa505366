"""processed_mini-batches.csv: what became of each mini-batch, a line each. A job may have millions of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from batchmesh.v1 import storage_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSED_COLUMNS = (
    "id", "tries", "process", "start", "total", "succeeded", "failed", "elapsed", "run() seconds", "status", "error",
)  # fmt: skip

_Processed = storage_pb2.ProcessedMiniBatches
_STATUSES = {
    _Processed.STATUS_SUCCEEDED: "Succeeded",
    _Processed.STATUS_FAILED: "Failed",
    _Processed.STATUS_NOT_REACHED: "NotReached",
}
_TO_QUOTE = re.compile(r'[",\r\n]')


def header_line() -> str:
    return ",".join(PROCESSED_COLUMNS) + "\n"


def processed_lines(processed: _Processed) -> Iterator[str]:
    """A line each. Raises ValueError when the columns do not fit each other, or name a node or status there is not."""
    nodes = list(processed.nodes)
    errors = map(_quoted, processed.error) if processed.error else [""] * len(processed.mini_batch)
    columns = zip(
        processed.mini_batch,
        processed.tries,
        processed.node,
        processed.process,
        processed.started_us,
        processed.total_items,
        processed.succeeded_items,
        processed.failed_items,
        processed.elapsed_us,
        processed.run_us,
        processed.status,
        errors,
        strict=True,
    )
    try:
        for number, tries, node, process, start, total, good, bad, elapsed, run, status, error in columns:
            where = _where(nodes[node], process)
            yield (
                f"{number},{tries},{where},{_moment(start)},{total},{good},{bad},{elapsed / 1e6:.6f},{run / 1e6:.6f},"
                f"{_STATUSES[status]},{error}\n"
            )
    except (IndexError, KeyError) as error:
        raise ValueError(f"a processed mini-batch has a node or a status that there is not: {error}") from None


@lru_cache(1024)
def _where(node: str, process: int) -> str:
    return _quoted(f"{node}/process{process:03}") if node else ""


def _moment(microseconds: int) -> str:
    """ISO 8601 in UTC; empty of what never ran."""
    return f"{_second(microseconds // 1_000_000)}.{microseconds % 1_000_000:06}Z" if microseconds else ""


@lru_cache(1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _TO_QUOTE.search(text) else text
