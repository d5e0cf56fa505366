"""What a person, or a machine, sees while a job goes on: a live bar, plain lines, or JSON lines."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self

from batchmesh.cli.shape import counts, job_json, span

if TYPE_CHECKING:
    from batchmesh.job import Job

#: Seconds between two plain lines.
_LINE_SECONDS = 1.0
#: Seconds that a rate is the mean of.
_RATE_SECONDS = 20.0


class Display(Protocol):
    """Shows the states of one job, inside a `with` block."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, job: Job) -> None:
        """The next state."""


def display(as_json: bool) -> Display:
    """The one that fits: JSON when asked for, a bar on a terminal, lines otherwise."""
    if as_json:
        return JsonLines()
    return Bar() if sys.stderr.isatty() else Lines()


class Rate:
    """Items a second over the last seconds, and the time left at that rate."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, items: int, now: float) -> None:
        """`now` in seconds of any steady clock."""
        self._seen.append((now, items))
        while now - self._seen[0][0] > _RATE_SECONDS and len(self._seen) > 2:
            self._seen.popleft()

    def per_second(self) -> float:
        """0 as long as nothing can be said."""
        (begin, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / (end - begin) if end > begin else 0.0

    def left(self, job: Job) -> str:
        """The time left, or empty text while it cannot be told."""
        waiting = job.progress.planned_items - job.progress.ended_items
        if job.state.is_final or not job.progress.planning_ended or waiting <= 0 or self.per_second() <= 0:
            return ""
        return span(waiting / self.per_second())


class JsonLines:
    """One object a line on standard output for each state that differs from the last."""

    def __init__(self) -> None:
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, job: Job) -> None:
        line = job_json(job, spec=False)
        if line != self._last:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        self._last = line


class Lines:
    """Plain lines on standard error: on change, one a second at most, and always the last."""

    def __init__(self) -> None:
        self._rate = Rate()
        self._last = ""
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, job: Job) -> None:
        now = time.monotonic()
        self._rate.add(job.progress.ended_items, now)
        facts = f"{job.job_id} {job.state} {counts(job)}"
        facts += f" ({job.waiting_for})" if job.waiting_for and not job.state.is_final else ""
        if facts == self._last or (now < self._next and not job.state.is_final):
            return
        self._last, self._next = facts, now + _LINE_SECONDS
        rate = self._rate.per_second()
        left = self._rate.left(job)
        more = (f", {rate:,.1f} items/s" if rate > 0 else "") + (f", {left} left" if left else "")
        sys.stderr.write(facts + more + "\n")
        sys.stderr.flush()


class Bar:
    """A live bar on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._rate = Rate()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[more]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, facts="", more="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, job: Job) -> None:
        progress = job.progress
        self._rate.add(progress.ended_items, time.monotonic())
        rate, left = self._rate.per_second(), self._rate.left(job)
        more = [f"{rate:,.1f} items/s" if rate > 0 else "", f"{left} left" if left else "", job.waiting_for]
        self._bar.update(
            self._task,
            description=f"{job.job_id} {job.state.lower()}",
            completed=progress.ended_items,
            total=progress.planned_items or None,
            facts=counts(job),
            more=" · ".join(filter(None, more)),
        )
