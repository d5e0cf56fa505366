"""What a round has used: the CPU time and the peak of memory of all processes of a way, by part.

a thread: every 0.2 s one look at /proc ──more resident memory than ever──▶ proportional memory of each part
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from process_table import Process, below, processes, proportional

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two looks.
_EVERY = 0.2
#: The part of resident memory by which it has to have grown to be weighed anew, which takes the kernel a while.
_GROWN = 1.02


@dataclass(frozen=True)
class Part:
    """Some processes of a way, and the CPU seconds that they, and what they have waited for, have used so far."""

    pids: tuple[int, ...]
    cpu: float
    resident: int


def part(found: list[Process], *, waited: bool = True) -> Part:
    """These processes together."""
    cpu = sum(each.own + (each.waited if waited else 0) for each in found)
    return Part(tuple(each.pid for each in found), cpu, sum(each.resident for each in found))


def whole(root: int, found: dict[int, Process]) -> dict[str, Part]:
    """A process and all below it, as one part."""
    return {"all": part([*filter(None, [found.get(root)]), *below(root, found)])}


@dataclass
class Watch:
    """Watches from `with` on to its end; then `cpu` and `peaks` hold what was used, by part, and `peak` the bytes at
    the moment at which all parts together had the most."""

    parts: Callable[[dict[int, Process]], dict[str, Part]]
    cpu: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    peak: int = 0

    def __enter__(self) -> Self:
        self._most: dict[str, int] = {}
        self._before = self._look()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        after = self._look()
        self._ended.set()
        self._thread.join()
        self.cpu = {name: after[name].cpu - (self._before[name].cpu if name in self._before else 0) for name in after}

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY):
            self._look()

    def _look(self) -> dict[str, Part]:
        now = self.parts(processes())
        if any(each.resident > _GROWN * self._most.get(name, 0) for name, each in now.items()):
            self._weigh(now)
        return now

    def _weigh(self, now: dict[str, Part]) -> None:
        weights = {name: sum(map(proportional, each.pids)) for name, each in now.items()}
        self.peak = max(self.peak, sum(weights.values()))
        for name, each in now.items():
            self._most[name] = max(self._most.get(name, 0), each.resident)
            self.peaks[name] = max(self.peaks.get(name, 0), weights[name])
