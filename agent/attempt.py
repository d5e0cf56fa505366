"""One execution of one mini-batch, in the worker: read, run, count, render.

Runs in the user's Python: CPython 3.9 syntax, standard library only. What reads tables and renders rows
is imported when a mini-batch needs it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from os.path import exists
from time import monotonic_ns, sleep, time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from batchmesh.data.reading import read_slice
from batchmesh.data.slices import UnreadableSlice, decode_slice, shown
from batchmesh.rows.results import result_length
from batchmesh.segment import encode_frame

from . import asking, frames
from .entry import Context, EntryScript, failure_of, log_beside

if TYPE_CHECKING:
    from batchmesh.data.slices import RowFailure, SliceFields
    from batchmesh.rows.rendering import Renderer


#: Seconds before a mini-batch whose files cannot be had at present is given back, to be tried again.
_AGAIN = 1.0


class Failed(Exception):
    """The mini-batch failed; `failure` is what the scheduler is told."""

    def __init__(self, failure: frames.Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Recalled(Failed):
    """It is given back unrun: a mini-batch before it took too long, or its files cannot be had at present."""


class MiniBatch(NamedTuple):
    """One mini-batch as it came."""

    attempt_id: int
    number: int
    try_number: int
    payload: bytes


class Attempt:
    """One execution of one mini-batch: read, run, count, render."""

    __slots__ = (
        "_mini_batch", "_sequence", "_word", "failed", "returned_ns", "rows", "run_ns", "started_us", "succeeded",
    )  # fmt: skip

    def __init__(self, mini_batch: MiniBatch, sequence: int, word: frames.Word) -> None:
        self._mini_batch = mini_batch
        self._sequence = sequence
        self._word = word
        self.rows = self.succeeded = self.failed = 0
        self.started_us = self.run_ns = self.returned_ns = 0

    def go(self, script: EntryScript, renderer: Renderer, max_result_bytes: int) -> bytes:
        """The frame of its rows. Errors: Failed, for whatever the user's code or data did."""
        fields, here, items, unreadable = self._read()
        count = len(items)
        result = [] if unreadable and not count else self._run(script, items, here)
        self._word.say(self._sequence, frames.RENDERING)
        results = self._length(result)
        self.succeeded = min(results, count)
        self.failed = count - self.succeeded + len(unreadable)
        if results > count:
            sentence = "run() returned %d results for %d items of mini-batch %d"
            log_beside(logging.WARNING, sentence, results, count, self._mini_batch.number)
        lines = self._failed_lines(fields, count - self.succeeded, unreadable) if self.failed else b""
        return self._render(renderer, result, lines, max_result_bytes)

    def _read(self) -> tuple[SliceFields, asking.Local, Any, list[RowFailure]]:
        """The slice as it came, the same on this node, its items, and its rows that cannot be read."""
        here = None
        try:
            fields = decode_slice(self._mini_batch.payload)
            here = asking.local(fields)
            batch = read_slice(here.fields)
        except asking.NotNow as error:
            sleep(_AGAIN)
            raise Recalled(frames.Failure(frames.Kind.NOT_STARTED, str(error))) from None
        except asking.NotThere as error:  # one bad file is found among others, one bad table is all there is
            kind = frames.Kind.UNREADABLE_FILE if fields["kind"] == "files" else frames.Kind.READ_FAILED
            raise Failed(frames.Failure(kind, f"The items cannot be read: {error}")) from None
        except UnreadableSlice as error:
            sentence = f"The items cannot be read: {here.named(str(error)) if here else error}"
            raise Failed(frames.Failure(frames.Kind.READ_FAILED, sentence)) from None
        except BaseException as error:  # noqa: BLE001  SystemExit of a user's code is a failure too
            raise Failed(failure_of(frames.Kind.READ_FAILED, "Reading the items", error)) from None
        if batch.lone:
            self._word.call(self._sequence, here.named(batch.lone))
        return fields, here, batch.items, [replace(row, file=here.named(row.file)) for row in batch.failures]

    def _run(self, script: EntryScript, items: Any, here: asking.Local) -> Any:
        self.started_us = time_ns() // 1000
        started_ns = monotonic_ns()
        self._word.write(self._sequence, frames.RUNNING, started_ns)
        try:
            with script.one_process:
                if not script.takes_context:
                    return script.run(items)
                return script.run(items, Context({}, self._mini_batch.number, None))
        except BaseException as error:  # noqa: BLE001  SystemExit of a user's code is a failure too
            failure = failure_of(frames.Kind.RUN_RAISED, "run()", error)
            raise Failed(failure._replace(message=failure.message + _gone(here))) from None
        finally:
            self.returned_ns = monotonic_ns()
            self.run_ns = self.returned_ns - started_ns

    def _length(self, result: Any) -> int:
        try:
            return result_length(result)
        except TypeError as error:
            raise Failed(frames.Failure(frames.Kind.BAD_RETURN, str(error))) from None

    def _render(self, renderer: Renderer, result: Any, failed_lines: bytes, max_result_bytes: int) -> bytes:
        try:
            rendered = renderer.render(result)
        except BaseException as error:  # noqa: BLE001  SystemExit of a user's code is a failure too
            raise Failed(failure_of(frames.Kind.BAD_RESULT, "Writing the result of run()", error)) from None
        size = len(rendered.body)
        if size > max_result_bytes:
            sentence = (
                f"The result of run() is {size:,} bytes, more than the {max_result_bytes:,} that one mini-batch may "
                "give; make mini_batch_size smaller."
            )
            raise Failed(frames.Failure(frames.Kind.BAD_RESULT, sentence))
        self.rows = rendered.rows
        return encode_frame(
            self._mini_batch.attempt_id,
            self._mini_batch.number,
            rendered.schema,
            rendered.body,
            failed_lines,
            rendered.rows,
        )

    def _failed_lines(self, fields: dict[str, Any], missing: int, unreadable: list[Any]) -> bytes:
        from batchmesh import failed_items

        lines = [
            failed_items.failed_line(
                item={"file": row.file, "line": row.line, "row": row.row, "column": row.column},
                slice_fields=None,
                count=1,
                kind=failed_items.UNREADABLE_ROW,
                error=row.error,
                tries=0,
            )
            for row in unreadable
        ]
        if missing:
            sentence = f"run() returned {self.succeeded} results for {self.succeeded + missing} items."
            lines.append(
                failed_items.failed_line(
                    item=None,
                    slice_fields=fields,
                    count=missing,
                    kind=failed_items.SHORT_RETURN,
                    error=sentence,
                    tries=self._mini_batch.try_number,
                )
            )
        return b"".join(lines)


def _gone(here: asking.Local) -> str:
    """What to add to the sentence of a run() that failed, if files that it was given are not there."""
    gone = [path for path in here.fields.get("files", ()) if not exists(path)]
    if not gone:
        return ""
    others = f" and {len(gone) - 1:,} more of its files are" if len(gone) > 1 else " is"
    return f" ({here.named(shown(gone[0]))}{others} not there any more)"
