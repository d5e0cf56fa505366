"""The nouns of a plan that nodes help to make: what is asked of a table file, and what is told of it.

file ──byte ranges──▶ PlanSlice, PlanSlice, … ──scanned by any node, for each state it may begin in──▶ ScannedSlice
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Union

from batchmesh.data.slices import UnreadableFile

if TYPE_CHECKING:
    from batchmesh.data.columns import Column
    from batchmesh.data.places import Cut, Place
    from batchmesh.data.row_groups import Footer

#: Row ends that one plan slice may be asked to name: many answers are in memory at once, each a message of its own.
MOST_MARKS = 2**13


class Border(enum.IntEnum):
    """The state between two bytes of a text table. Numbers as in Border of agent.proto.

    Of CSV: RECORD, FIELD, QUOTED, LITERAL. Of JSON lines: RECORD, TEXT.
    """

    #: A record begins here, whatever the byte before is.
    RECORD = 1
    #: Outside of quotes; the byte before tells whether a quote would open a field.
    FIELD = 2
    #: Inside of a quoted field.
    QUOTED = 3
    #: Outside, behind a quote that is plain text: another one would be, too.
    LITERAL = 4
    #: In a line that holds more than white space.
    TEXT = 5


class Grid(NamedTuple):
    """Mini-batches end with the first row that ends at or behind `origin` + n * `step` bytes, for each n."""

    origin: int
    step: int

    def ends(self, start: Place, end: Place) -> bool:
        """Whether the mini-batch that begins at `start` ends with the row that ends at `end`."""
        return (end.offset - self.origin) // self.step > (start.offset - self.origin) // self.step


class Every(NamedTuple):
    """Mini-batches end with each `rows`-th row; `have` of the first one's lie before the plan slice."""

    rows: int
    have: int = 0

    def ends(self, start: Place, end: Place) -> bool:
        """As of Grid."""
        return end.row - start.row >= self.rows


#: None asks for counts alone.
Rule = Union[Grid, Every, None]  # noqa: UP007  (CPython 3.9)


class Mark(NamedTuple):
    """The end of a row: its byte in the file, and line ends and rows from the plan slice's start up to it."""

    offset: int
    lines: int
    rows: int


class PlanSlice(NamedTuple):
    """Bytes of a file to be scanned; a CR LF is never parted, but goes with its CR. `border`: None if unknown."""

    start: int
    end: int
    border: Border | None
    rule: Rule


class Branch(NamedTuple):
    """What a plan slice holds if it begins in one of the states `starts`.

    `marks` are at least its first and its last row end and all that end a mini-batch by the rule.
    """

    starts: tuple[Border, ...]
    end: Border
    #: Whether it ends within a record.
    is_open: bool
    rows: int
    marks: list[Mark]


class ScannedSlice(NamedTuple):
    """From where to where was scanned, the line ends in it, and what else depends on the state at its start."""

    start: int
    end: int
    lines: int
    branches: list[Branch]


class Wanted(enum.IntEnum):
    """What is asked of a file as a whole. Numbers as in Wanted of agent.proto."""

    LOOK = 1
    COLUMNS = 2
    CUTS = 4
    ROW_GROUPS = 5


@dataclass(frozen=True)
class TableFile:
    """A file of a kind; with a `size` in bytes and a `stamp`, as it was then."""

    path: str
    kind: str
    header: bool = True
    size: int | None = None
    stamp: str = ""


class Looked(NamedTuple):
    """What the start of a text table tells."""

    zipped: bool
    #: "" of JSON lines.
    delimiter: str
    #: Where its first row may begin; None if nothing is in it.
    body: Place | None


@dataclass(frozen=True)
class Told:
    """What a node tells of a file of `size` bytes: what was asked for."""

    size: int
    stamp: str = ""
    looked: Looked | None = None
    columns: list[Column] = field(default_factory=list)
    scanned: ScannedSlice | None = None
    cuts: list[Cut] = field(default_factory=list)
    footer: Footer | None = None


def check_same(file: TableFile, size: int, stamp: str) -> None:
    """Errors: UnreadableFile if a file of that size and stamp is not the one that was planned."""
    if file.size not in (None, size) or file.stamp not in ("", stamp):
        raise UnreadableFile(
            f"{file.path} cannot be read: it is no longer what it was when the job was planned; submit the job again"
        )
