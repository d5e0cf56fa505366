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
#: One operation a line: there are as many lines as mini-batches.
_LINE = "%d,%d,%s,%s,%d,%d,%d,%.6f,%.6f,%s,%s\n"
_TO_QUOTE = re.compile(r'[",\r\n]')


def header_line() -> str:
    return ",".join(PROCESSED_COLUMNS) + "\n"


def processed_lines(processed: _Processed) -> Iterator[str]:
    """A line each. Raises ValueError when the columns do not fit each other, or name a node or status there is not."""
    nodes = list(processed.nodes)
    try:
        columns = zip(
            processed.mini_batch,
            processed.tries,
            [_where(nodes[node], process) for node, process in zip(processed.node, processed.process, strict=True)],
            map(_moment, processed.started_us),
            processed.total_items,
            processed.succeeded_items,
            processed.failed_items,
            [elapsed / 1e6 for elapsed in processed.elapsed_us],
            [run / 1e6 for run in processed.run_us],
            map(_STATUSES.__getitem__, processed.status),
            map(_quoted, processed.error) if processed.error else [""] * len(processed.mini_batch),
            strict=True,
        )
        yield from map(_LINE.__mod__, columns)
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
