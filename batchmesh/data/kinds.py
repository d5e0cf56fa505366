"""What kind of input a path is: files, or rows of a CSV, Parquet or JSON lines table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from batchmesh.data import listing

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("files", "csv", "parquet", "jsonl")

_ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".csv.gz": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson.gz": "jsonl",
}


def kind_of_path(path: str) -> str:
    """By the name's ending alone, in any case; what has no table's ending is "files"."""
    name = os.path.basename(path).lower()
    stem, ending = os.path.splitext(name)
    if ending == ".gz":
        ending = os.path.splitext(stem)[1] + ending
    return _ENDINGS.get(ending, "files")


def kind_of_input(text: str, first: str | None = None) -> str:
    """From the path if it is a file or a glob; from the first file listed if a folder or a glob of any ending.

    `first` is that file where the caller knows it.
    Errors: InputRefused as of listing.list_input.
    """
    ending_is_open = listing.is_glob(text) and listing.is_glob(os.path.splitext(text)[1] or "-")
    if listing.is_folder(text) or ending_is_open:
        return kind_of_path(first or listing.first_file(text))
    return kind_of_path(text)


def kind_of_inputs(
    inputs: Sequence[str], override: str | None = None, firsts: Sequence[str | None] | None = None
) -> str:
    """The one kind of all inputs; `firsts` are their first files where the caller knows them.

    Errors: InputRefused if they are of several kinds, if there is none, or as of listing.list_input.
    """
    if not inputs:
        raise listing.InputRefused("there is no input; give at least one file, folder or glob")
    if override is not None:
        if override not in KINDS:
            raise listing.InputRefused(f"input type {override!r} is unknown; it is one of {', '.join(KINDS)}")
        return override
    found = [kind_of_input(text, first) for text, first in zip(inputs, firsts or [None] * len(inputs))]  # noqa: B905
    for text, kind in zip(inputs, found):  # noqa: B905
        if kind != found[0]:
            raise listing.InputRefused(
                f"inputs are of one kind, but {inputs[0]!r} is {found[0]} and {text!r} is {kind};"
                " run a job for each or give --input-type"
            )
    return found[0]
