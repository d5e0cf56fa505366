"""How large a mini-batch is: so many files, about so many bytes, or so many rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BYTES = re.compile(r"(\d+)([kmg]b)?", re.ASCII | re.IGNORECASE)
_ROWS = re.compile(r"(\d+) *rows?", re.ASCII | re.IGNORECASE)
_POWERS = {"kb": 1, "mb": 2, "gb": 3}
_FORMS = "write 10 (files), 100KB, 1MB or 1GB (bytes of a table), or '1000 rows'"

DEFAULT_FILES = 10
DEFAULT_BYTES = 1024 * 1024


@dataclass(frozen=True)
class MiniBatchSize:
    """`amount` counts what `unit` says: "files", "bytes" (approximate) or "rows" (exact)."""

    amount: int
    unit: str

    @classmethod
    def parse(cls, text: str | int | None, kind: str) -> MiniBatchSize:
        """What `text` means for an input of this kind; None is the default, 10 files or 1 MB.

        Errors: ValueError with one sentence if the text is malformed, zero, or of a unit the kind does not have.
        """
        if text is None:
            return cls(DEFAULT_FILES, "files") if kind == "files" else cls(DEFAULT_BYTES, "bytes")
        amount, unit = _read(str(text).strip())
        if kind == "files":
            if unit != "":
                raise ValueError(
                    f"mini_batch_size {text!r} is in {unit}, but the input is files: give a number of files, such as 10"
                )
            return cls(amount, "files")
        return cls(amount, unit or "bytes")


def even_size(size: MiniBatchSize, total: int) -> MiniBatchSize:
    """As many pieces of `total` bytes as asked for, but alike, so that no crumb is left at the end."""
    if size.unit != "bytes" or total <= size.amount:
        return size
    return MiniBatchSize(-(-total // -(-total // size.amount)), "bytes")


def check_syntax(text: str | int | None) -> None:
    """Refuses what no kind of input could mean.

    Errors: ValueError with one sentence.
    """
    if text is not None:
        _read(str(text).strip())


def _read(text: str) -> tuple[int, str]:
    """The amount and its unit: "rows", "bytes", or "" for a bare number, whose unit is the input's."""
    rows = _ROWS.fullmatch(text)
    found = rows or _BYTES.fullmatch(text)
    if found is None or len(found[1]) > 18:
        raise ValueError(f"mini_batch_size {text!r} is not a size: {_FORMS}")
    power = "" if rows else (found[2] or "").lower()
    amount = int(found[1]) * int(1024 ** _POWERS.get(power, 0))
    if amount == 0:
        raise ValueError(f"mini_batch_size {text!r} is zero: give at least 1")
    return amount, "rows" if rows else "bytes" if power else ""
