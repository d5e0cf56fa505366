"""What the mini-batches of a job are: lists its inputs, splits its tables, one at a time and in output order.

    inputs ──list──▶ files ──┬─ a file input: groups of paths ───────────▶ PlannedMiniBatch
                             └─ a table:  split ─┬─ slices of rows ──────▶ PlannedMiniBatch
                                                 ├─ cannot be read ──────▶ PlannedMiniBatch with a failure
                                                 └─ no rows ─────────────▶ FileWithoutRows

A large table, or one of a remote datastore, is split with what nodes tell of it (splitting). Pure but for reading the
inputs and asking nodes; holds one mini-batch and one folder's names, never a list of all. A format's module is
imported when its first file comes: pyarrow would cost each start of the scheduler half a second.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from batchmesh.data import files
from batchmesh.data.columns import check_types
from batchmesh.data.kinds import kind_of_inputs, kind_of_path
from batchmesh.data.listing import InputRefused
from batchmesh.data.plan_slices import TableFile
from batchmesh.data.size import MiniBatchSize, check_syntax
from batchmesh.data.slices import Piece, UnreadableFile, encode_slice, shown

from .inputs import Inputs, is_remote
from .splitting import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from batchmesh.data.listing import Run

    from .inputs import Remote
    from .splitting import Ask

#: The kind of failure of an item that no worker ever sees.
UNREADABLE_FILE = "UNREADABLE_FILE"


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """`kind` overrides what their names say; `csv_header` is "present" or "absent"."""

    inputs: tuple[str, ...]
    kind: str | None = None
    mini_batch_size: str | int | None = None
    csv_header: str = "present"
    csv_types: Mapping[str, str] = field(default_factory=dict)
    #: How many of `inputs`, one after the other, are split as a whole; empty: each is split on its own.
    input_sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class PlannedFailure:
    """Why a mini-batch of one item never runs; `item` is the file's path, `message` one sentence."""

    kind: str
    message: str
    item: str


class Place(NamedTuple):
    """The last file a mini-batch was taken from; `after` is where its next slice begins, None if it is finished.

    `stamp` is what the file was when it was split, if it lies in a datastore.
    """

    kind: str
    input_number: int
    path: str
    after: dict[str, int] | None = None
    stamp: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(*json.loads(text))

    def __str__(self) -> str:
        return json.dumps(list(self), separators=(",", ":"))


class PlannedMiniBatch(NamedTuple):
    """`items` counts files or rows. With a `failure` it never runs. Planning goes on behind it from `cursor`."""

    items: int
    payload: bytes
    affinity: int
    failure: PlannedFailure | None
    place: Place

    @property
    def cursor(self) -> str:
        """Its place as text, made when it is asked for: few of many are."""
        return str(self.place)


@dataclass(frozen=True)
class FileWithoutRows:
    """A table file in which there is nothing to run on, for the report, which shows its `path`."""

    path: str
    place: Place

    @property
    def cursor(self) -> str:
        """As of a PlannedMiniBatch."""
        return str(self.place)


Planned = PlannedMiniBatch | FileWithoutRows


@dataclass(frozen=True)
class ByNodes:
    """Which tables nodes look into: those of remote datastores, and those of this host of more than `above` bytes."""

    ask: Ask
    above: int
    #: Bytes of a table that a node looks into at once.
    slice_bytes: int
    #: Called before an answer is waited for.
    idle: Callable[[], object] = lambda: None


def check(request: PlanRequest, remote: Remote | None = None) -> str:
    """The kind of the inputs, after all that can be told from their names and first files.

    Errors: InputRefused, one sentence, for an input that is missing, empty or forbidden, inputs of several kinds, a
    size of the wrong unit, a wrong csv_header or csv_types; what a datastore refuses, or storage of it.
    """
    try:
        check_syntax(request.mini_batch_size)
        inputs = Inputs(request.inputs, remote)
        firsts = [_first_file_of(inputs, number) for number in range(len(inputs.texts))]
        kind = _kind(inputs, request.kind, firsts)
        MiniBatchSize.parse(request.mini_batch_size, kind)
        check_types(request.csv_types, kind)
    except InputRefused:
        raise
    except ValueError as error:
        raise InputRefused(str(error)) from None
    if request.csv_header not in ("present", "absent"):
        raise InputRefused(f"csv_header is 'present' or 'absent', not {request.csv_header!r}")
    if kind == "csv" and request.csv_types:
        _check_columns(request, inputs, firsts)
    return kind


def plan(
    request: PlanRequest,
    cursor: str | None = None,
    remote: Remote | None = None,
    kind: str | None = None,
    nodes: ByNodes | None = None,
) -> Iterator[Planned]:
    """All mini-batches in output order, from behind the one whose cursor is given; `kind` as `check` told it, if known.

    Without `nodes` all tables are of this host, and none is too large to be split here.
    Errors: InputRefused for an input that is missing or empty, or a folder that cannot be listed; what a datastore
    refuses, or storage of it; what keeps nodes from answering; CancelledError once nobody may be asked any more.
    """
    done = None if cursor is None else Place.parse(cursor)
    inputs = Inputs(request.inputs, remote)
    kind = done.kind if done is not None else kind or _kind(inputs, request.kind)
    size = MiniBatchSize.parse(request.mini_batch_size, kind)
    if kind == "files":
        yield from _plan_files(inputs, request.input_sizes, size, done)
    else:
        yield from _Tables(request, inputs, kind, size, nodes).plan(done)


def _kind(inputs: Inputs, override: str | None, firsts: Sequence[str] | None = None) -> str:
    """The one kind of all inputs, whose first files the caller may know."""
    texts = list(inputs.texts)
    for number, text in enumerate(texts):
        if is_remote(text):  # its first file's name alone says what it is
            texts[number] = firsts[number] if firsts else inputs.first(number)
    return kind_of_inputs(texts, override, firsts)


def _plan_files(inputs: Inputs, sizes: tuple[int, ...], size: MiniBatchSize, done: Place | None) -> Iterator[Planned]:
    """The inputs that one of `sizes` counts are split as a whole."""
    end = 0
    for count in sizes or (1,) * len(inputs.texts):
        begin, end = end, end + count
        whole = _Whole(inputs, begin, end, done)
        for piece in files.split(whole.runs(), size.amount):
            yield _mini_batch(piece, Place("files", whole.number, files.last_of(piece.fields)))


class _Whole:
    """The files of the inputs from `begin` to before `end`, as far as they lie behind `done`; `number` is that of the
    input that the last one came from."""

    def __init__(self, inputs: Inputs, begin: int, end: int, done: Place | None) -> None:
        self.number = begin
        self._inputs = inputs
        self._end = end
        self._last: str | None = None
        if done is not None and begin <= done.input_number:
            self.number, self._last = done.input_number, done.path

    def runs(self) -> Iterator[Run]:
        last = self._last
        for number in range(self.number, self._end):
            self.number = number
            yield from self._inputs.runs(number, last)
            last = None


@dataclass(frozen=True)
class _Tables:
    request: PlanRequest
    inputs: Inputs
    kind: str
    size: MiniBatchSize
    nodes: ByNodes | None

    def plan(self, done: Place | None) -> Iterator[Planned]:
        first, last = (0, None) if done is None else (done.input_number, done.path)
        if done is not None and done.after is not None:
            yield from self._plan_file(done)
        for number in range(first, len(self.inputs.texts)):
            for path in self.inputs.list(number, last if number == first else None):
                yield from self._plan_file(Place(self.kind, number, path))

    def _plan_file(self, start: Place) -> Iterator[Planned]:
        """What is left of the file from `start` on."""
        finished = start._replace(after=None, stamp="")
        has_rows = start.after is not None
        try:
            self._check_name(start.path)
            for piece in self._pieces(start):
                stamp = piece.fields.get("stamp", "")
                yield _mini_batch(piece, finished._replace(after=piece.after, stamp=stamp))
                has_rows = True
        except UnreadableFile as error:
            yield _failed_item(start.path, str(error), finished)
            return
        if not has_rows:
            yield FileWithoutRows(shown(start.path), finished)

    def _check_name(self, path: str) -> None:
        found = kind_of_path(path)
        named = path in self.inputs.texts or found == "files"
        if found != self.kind and not (named and self.request.kind):
            raise UnreadableFile(f"{path} is no {self.kind} file, as the input's other files are; leave it out")

    def _pieces(self, start: Place) -> Iterator[Piece]:
        nodes, path = self.nodes, start.path
        if nodes is None or not (is_remote(path) or _size_of(path) > nodes.above):
            return self._split(path, start.after)
        file = TableFile(path, self.kind, self.request.csv_header == "present", stamp=start.stamp)
        split = Split(nodes.ask, file, self.size, self.request.csv_types, nodes.slice_bytes, nodes.idle)
        return split.pieces(start.after)

    def _split(self, path: str, after: dict[str, int] | None) -> Iterator[Piece]:
        if self.kind == "parquet":
            from batchmesh.data import parquet

            return parquet.split(path, self.size, after)
        if self.kind == "jsonl":
            from batchmesh.data import jsonl

            return jsonl.split(path, self.size, self.request.csv_types, after)
        from batchmesh.data import csv

        options = csv.CsvOptions(self.request.csv_header == "present", self.request.csv_types)
        return csv.split(path, self.size, options, after)


def _mini_batch(piece: Piece, place: Place) -> PlannedMiniBatch:
    return PlannedMiniBatch(piece.items, encode_slice(piece.fields), piece.affinity, None, place)


def _size_of(path: str) -> int:
    """0 of what is not there, which is told when it is split."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _failed_item(path: str, message: str, place: Place) -> PlannedMiniBatch:
    payload = encode_slice({"kind": "unreadable", "file": path})
    return PlannedMiniBatch(1, payload, 0, PlannedFailure(UNREADABLE_FILE, message, path), place)


def _first_file_of(inputs: Inputs, number: int) -> str:
    """The first file of an input, which exists and may be read unless it is a link that leads nowhere in a folder."""
    text, first = inputs.texts[number], inputs.first(number)
    if is_remote(first):
        inputs.check_readable(first)
        return first
    if os.path.islink(text) and not os.path.exists(text):
        raise InputRefused(f"input {text!r} is a link that leads nowhere; check the path")
    if os.path.exists(first) and not os.access(first, os.R_OK):
        raise InputRefused(f"input {text!r}: the file {first!r} may not be read; grant the permission to do so")
    return first


def _check_columns(request: PlanRequest, inputs: Inputs, firsts: list[str]) -> None:
    """A column name that no first file has is a slip of the pen."""
    from batchmesh.data import csv

    names: list[str] = []
    try:
        for path in firsts:
            names += csv.read_head(inputs.source(path), request.csv_header == "present").names
    except (OSError, EOFError, UnreadableFile):
        return  # that file becomes a failed item; its columns cannot be told
    for column in request.csv_types:
        if column not in names:
            known = ", ".join(dict.fromkeys(names)) or "none"
            raise InputRefused(f"csv_types: {firsts[0]!r} has no column {column!r}; its columns are {known}")
