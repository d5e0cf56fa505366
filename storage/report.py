"""The report of a job: summary.json, processed_mini-batches.csv and, if something failed, failed_items.jsonl."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from batchmesh.data.job_report import SUMMARY

from .disk import sync_file, sync_folder
from .processed import header_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROCESSED = "processed_mini-batches.csv"


class FailedItems:
    """failed_items.jsonl: the lines that frames carry and those of what failed whole, in the order of the mini-batches.

    Of a mini-batch that was split, the lines of its good parts come first, then those of its failed ones, each in the
    order in which they came.
    """

    def __init__(self, path: Path, whole: Iterator[tuple[int, bytes]]) -> None:
        self._file = path.open("wb", 2**20)
        self._path = path
        self._whole = whole
        self._next = next(whole, None)

    def add(self, mini_batch: int, lines: bytes) -> None:
        """Lines of a frame. Frames come in the order of their mini-batches, several of one in that of its parts."""
        while self._next is not None and self._next[0] < mini_batch:
            self._write_next()
        self._file.write(lines)

    def complete(self) -> None:
        """Writes the rest; no line at all, no file."""
        while self._next is not None:
            self._write_next()
        self.close()
        if not self._path.stat().st_size:
            self._path.unlink()

    def close(self) -> None:
        """Closes the file, complete or not."""
        self._file.close()

    def _write_next(self) -> None:
        assert self._next is not None, "the callers look"
        self._file.write(self._next[1])
        self._next = next(self._whole, None)


def write_report(folder: Path, summary: dict[str, Any], processed: Path | None) -> None:
    """Completes a folder that FailedItems has written to, durably. `processed`: None when no mini-batch was run."""
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if processed is not None:
        shutil.copyfile(processed, folder / PROCESSED)
    else:
        (folder / PROCESSED).write_text(header_line(), encoding="utf-8")
    for path in folder.iterdir():
        sync_file(path)
    sync_folder(folder)


def publish_report(folder: Path, hidden: Path, displaced: Path) -> None:
    """Puts the hidden report in the place of `folder`; what was there goes by way of `displaced`."""
    if folder.exists():
        folder.rename(displaced)
    hidden.rename(folder)
    sync_folder(folder.parent)
    if displaced.is_dir():
        shutil.rmtree(displaced)
