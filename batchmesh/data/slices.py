"""The nouns of an input: a slice of it by reference, what a splitter tells of one, and what a reader gives back.

Standard library only: workers import this in the user's environment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: What a slice is on the wire and in the database: a JSON object whose "kind" names the module that reads it.
SliceFields = dict[str, Any]


def shown(text: str) -> str:
    """The text as a message can carry it: what is no UTF-8 in a file's name is escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class UnreadableSlice(Exception):
    """The items of a slice cannot be read at all: the file is gone, damaged or no longer what was planned."""

    def __init__(self, sentence: str) -> None:
        super().__init__(shown(sentence))


def changed(fields: SliceFields) -> UnreadableSlice:
    return UnreadableSlice(f"{fields['file']} is no longer what it was when the job was planned; submit the job again")


def check_size(fields: SliceFields, size: int) -> None:
    """`size` is the file's, in bytes. Errors: UnreadableSlice if it was another when the slice was planned."""
    if size != fields.get("size", size):
        raise changed(fields)


class UnreadableFile(Exception):
    """A table file that cannot be split: missing, forbidden, damaged. It becomes one failed item."""

    def __init__(self, sentence: str) -> None:
        super().__init__(shown(sentence))


class Piece(NamedTuple):
    """One slice as its splitter yields it.

    `items` counts files or rows, bad rows included. `affinity` is 0 or a number that neighbours share: one worker
    reads all of them cheapest. `after` is where the next slice of the same file begins, for the splitter alone.
    """

    items: int
    fields: SliceFields
    affinity: int
    after: dict[str, int]


@dataclass(frozen=True)
class RowFailure:
    """One row that could not be read.

    `line` is where the row begins, counted from 1 in the file with its header, quoted newlines and empty lines (None
    where the format has no lines). `row` counts the file's rows from 1, header and empty lines left out.
    """

    file: str
    line: int | None
    row: int
    column: str | None
    error: str


@dataclass(frozen=True)
class Batch:
    """What one `run()` gets: a list of local paths or a pandas DataFrame, and the rows left out because unreadable."""

    items: Any
    failures: list[RowFailure] = field(default_factory=list)
    #: What its item is called, if there is exactly one.
    lone: str = ""


def part_of(fields: SliceFields, first: int, items: int) -> SliceFields:
    """Items `first` (from 0) to `first + items` of a mini-batch, whose own slice `fields` is: never those of a part.

    Of a table the rows that can be read come first, those that cannot be read after them.
    """
    if fields["kind"] == "files":
        return {**fields, "files": fields["files"][first : first + items]}
    return {**fields, "part": [first, items]}


_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: dumps would make one for each slice
_quote = json.encoder.encode_basestring_ascii


def encode_slice(fields: SliceFields) -> bytes:
    """The bytes that travel from the planner to the worker untouched; odd file names survive as escapes.

    Files of one folder may be given, and always travel, as {"folder": "/in/a/", "names": "1.png/2.png"}.
    """
    if "names" in fields:  # most slices by far, in a sixth of the time
        return f'{{"kind":"files","folder":{_quote(fields["folder"])},"names":{_quote(fields["names"])}}}'.encode(
            "ascii"
        )
    return _encode(fields).encode("ascii")


_decode = json.JSONDecoder().raw_decode  # loads would look for an encoding and for white space, at twice the price


def decode_slice(payload: bytes) -> SliceFields:
    """Of files their whole paths, as {"kind": "files", "files": [...]}, however they travelled."""
    fields: SliceFields = _decode(payload.decode("ascii"))[0]
    if "names" in fields:
        folder = fields["folder"]
        return {"kind": "files", "files": [folder + name for name in fields["names"].split("/")]}
    return fields
