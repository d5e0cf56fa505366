"""What a world raises when an invariant does not hold, with the last things that happened."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from batchmesh.scheduler.events import AttemptsEnded, AttemptsHeld, Dispatch, MiniBatchesPlanned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchmesh.scheduler.events import Command, Event


class Violation(AssertionError):
    """One sentence, and a short history."""

    def __init__(self, sentence: str, history: str) -> None:
        super().__init__(sentence, history)

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.args[1]}"


class History:
    """The last things that happened; put into words only when they are asked for."""

    def __init__(self, length: int = 30) -> None:
        self._last: deque[tuple[float, Event | str, Sequence[Command | str]]] = deque(maxlen=length)

    def add(self, now: float, what: Event | str, commands: Sequence[Command] = ()) -> None:
        # A mini-batch changes later on; what was sent is told as it was.
        told = [_words(each) if isinstance(each, Dispatch) else each for each in commands]
        self._last.append((now, what, told))

    def told(self) -> str:
        return "\n".join(_line(*each) for each in self._last)


def _line(now: float, what: Event | str, commands: Sequence[Command | str]) -> str:
    if isinstance(what, str):
        return f"{now:9.3f}  -- {what}"
    done = "".join(f"\n{'':14}> {_words(command)}" for command in commands)
    return f"{now:9.3f}  {_words(what)}{done}"


def _words(what: Event | Command | str) -> str:
    match what:
        case Dispatch():
            parts = [f"{_attempt(a)}={m.index}[{m.first}+{m.items}]t{m.tries}l{m.level}" for a, m in what.attempts]
            return f"Dispatch {what.job_id} {what.node_id}: {' '.join(parts)}"
        case AttemptsEnded():
            ends = [f"{_attempt(e.attempt_id)}:{e.failure.kind.name if e.failure else 'ok'}" for e in what.ends]
            return f"AttemptsEnded {what.job_id}: {' '.join(ends)}"
        case AttemptsHeld():
            held = [f"{_attempt(each.attempt_id)}={each.index}/{each.part >> 40}" for each in what.attempts]
            opened = [*[each.index for each in what.opened], *[each.index for each in what.isolations]]
            return f"AttemptsHeld {what.job_id} {what.node_id}: {' '.join(held)}; opened {opened}"
        case MiniBatchesPlanned():
            split = [each.index for each in what.isolations]
            return f"MiniBatchesPlanned {what.job_id}: {[m.index for m in what.mini_batches]}; split {split}"
        case _:
            return str(what)


def _attempt(attempt_id: int) -> str:
    """Which life of the scheduler, and which number in it."""
    return f"{attempt_id >> 40}.{attempt_id & (1 << 40) - 1}"
