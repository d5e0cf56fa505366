"""What a CommitOutput stream says, page by page from the database.

outcomes ──┬─ mini-batches that succeeded whole: columns, as they are ──┬──▶ places, processed ──▶ requests
           └─ whatever else: MiniBatchReport ──────────────────────────┴──▶ failed lines
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, TypeVar

from batchmesh.calls import PIECE
from batchmesh.v1 import segment_pb2, storage_pb2

from . import tables
from .report import MiniBatchReport, ProcessedRow
from .report_rows import plain_rows, report_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from .report_rows import PlainRow
    from .store import Store

_Thing = TypeVar("_Thing")
_Request = storage_pb2.CommitOutputRequest
_SUCCEEDED = storage_pb2.ProcessedMiniBatches.STATUS_SUCCEEDED

#: Mini-batches read at a time: of those that succeeded some hundred bytes each, of others also their slices.
_PLAIN_PAGE, _PAGE = 8000, 2000
#: Bytes of a processed row beside its error, about.
_ROW_BYTES = 80


async def commit_requests(
    store: Store, number: int, run_max_try: int, header: storage_pb2.CommitHeader
) -> AsyncIterator[_Request]:
    """All requests of one commit of job `number`, each of a bounded size. Errors: StoreFailed."""
    empty = await asyncio.wrap_future(store.read(partial(tables.files_without_rows, number=number)))
    unreadable = await asyncio.wrap_future(store.read(partial(tables.unreadable, number=number)))
    yield _Request(header=header)
    for paths in _in_pieces(empty, lambda path: len(path.encode())):
        yield _Request(files_without_rows=paths)
    after = -1
    while True:
        plain: list[PlainRow] = []
        if not unreadable:  # those have no outcomes, and stand between the others
            ask_plain = partial(plain_rows, number=number, after=after, count=_PLAIN_PAGE)
            plain = await asyncio.wrap_future(store.read(ask_plain))
        if plain:
            yield _plain_request(plain)
            after = plain[-1][0]
            continue
        ask = partial(report_rows, number=number, after=after, count=_PAGE)
        page = await asyncio.wrap_future(store.read(ask))
        if not page:
            yield _Request(complete=True)
            return
        for request in _requests([MiniBatchReport(rows, run_max_try) for rows in page]):
            yield request
        after = page[-1][0].idx


def _plain_request(rows: Sequence[PlainRow]) -> _Request:
    """One page of mini-batches that succeeded: column for column, as there may be a million."""
    *processed, segments, offsets, lengths, attempts, _ = zip(*rows, strict=True)
    request = _Request()
    _fill_processed(request.processed, processed)
    request.processed.status.extend([_SUCCEEDED] * len(rows))
    places = [list(compress(each, lengths)) for each in (segments, offsets, lengths, processed[0], attempts)]
    _fill_places(request.places, places[0], places[1:])  # a frame of no bytes is none
    return request


def _requests(page: list[MiniBatchReport]) -> Iterator[_Request]:
    """One page as requests of a bounded size: all places in one, rows and failed lines in as many as they need."""
    good = [(row.segment, row.offset, row.length, row.idx, row.attempt) for each in page for row in each.good]
    if good:
        request = _Request()
        segments, *columns = zip(*good, strict=True)
        _fill_places(request.places, segments, columns)
        yield request
    for rows in _in_pieces([each.processed() for each in page], lambda row: _ROW_BYTES + len(row.error.encode())):
        yield _Request(processed=_processed(rows))
    failed = ((each.idx, line) for each in page for line in each.failed_lines())
    for lines in _in_pieces(failed, lambda each: len(each[1])):
        yield _Request(failed_mini_batch=[index for index, _ in lines], failed_lines=[line for _, line in lines])


def _processed(rows: Sequence[ProcessedRow]) -> storage_pb2.ProcessedMiniBatches:
    *columns, statuses, errors = zip(*rows, strict=True)
    processed = storage_pb2.ProcessedMiniBatches(status=statuses)
    _fill_processed(processed, columns)
    if any(errors):
        processed.error.extend(errors)
    return processed


def _fill_processed(processed: storage_pb2.ProcessedMiniBatches, columns: Sequence[Sequence[Any]]) -> None:
    """`columns` are those of ProcessedRow before its status."""
    names = _numbered(columns[2])
    processed.nodes.extend(names)
    processed.node.extend([names[name] for name in columns[2]])
    for field, column in zip(_PROCESSED, columns, strict=True):
        if field != "node":
            getattr(processed, field).extend(column)


#: The columns of the message for the first fields of a ProcessedRow.
_PROCESSED = (
    "mini_batch", "tries", "node", "process", "started_us", "total_items", "succeeded_items", "failed_items",
    "elapsed_us", "run_us",
)  # fmt: skip


def _fill_places(places: segment_pb2.Places, segments: Sequence[str], columns: Sequence[Sequence[int]]) -> None:
    """`columns`: offset, length, mini-batch and attempt of each frame."""
    names = _numbered(segments)
    places.segments.extend(names)
    places.segment.extend([names[name] for name in segments])
    filled = (places.offset, places.length, places.mini_batch, places.attempt_id)
    for field, column in zip(filled, columns, strict=True):
        field.extend(column)


def _numbered(names: Sequence[str]) -> dict[str, int]:
    """The different ones, each with its position among them."""
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _in_pieces(things: Iterable[_Thing], size_of: Callable[[_Thing], int]) -> Iterator[list[_Thing]]:
    """As many in a list as fit into a piece of a message, at least one."""
    piece: list[_Thing] = []
    size = 0
    for thing in things:
        own = size_of(thing)
        if piece and size + own > PIECE:
            yield piece
            piece, size = [], 0
        piece.append(thing)
        size += own
    if piece:
        yield piece
