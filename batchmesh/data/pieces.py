"""From a cut of a text table to the slice that a worker reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchmesh.data.slices import Piece, SliceFields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchmesh.data.columns import Column
    from batchmesh.data.places import Cut


class TextFile(NamedTuple):
    """What all slices of a file say of it: `fields` that name it, its kind and delimiter; its `size` in bytes."""

    fields: SliceFields
    size: int
    zipped: bool


def piece_of(cut: Cut, columns: Sequence[Column], file: TextFile) -> Piece:
    """Slice fields as of csv and jsonl."""
    fields = {
        **file.fields,
        "size": file.size,
        "offset": cut.start.offset,
        "length": cut.end.offset - cut.start.offset,
        "line": cut.start.line,
        "row": cut.start.row,
        "rows": cut.rows,
        "columns": [list(column) for column in columns],
    }
    if file.zipped:
        fields["zipped"] = True
    if cut.unterminated:
        fields["unterminated"] = True
    return Piece(cut.rows, fields, 0, cut.end._asdict())
