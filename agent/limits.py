"""Whether a worker has overstayed in what it does: a pure judgement over what the shared word says."""

from __future__ import annotations

from dataclasses import dataclass

from . import frames

_NS = 1_000_000_000


@dataclass(frozen=True)
class Limits:
    """A job's own limits, in seconds."""

    run_invocation_timeout: float
    task_overhead_timeout: float


class Watch:
    """Watches one worker. An agent that was itself paused gives what was under way the time of the pause."""

    def __init__(self) -> None:
        self._seen: frames.Moment | None = None
        self._grace_ns = 0

    def judge(
        self, moment: frames.Moment, now_ns: int, pause_ns: int, limits: Limits, lone: str = ""
    ) -> frames.Failure | None:
        """Call at each tick. `pause_ns` is how long the agent was paused since the tick before, 0 if it was not.

        `lone` is the name of the mini-batch's item if it has one only."""
        if moment != self._seen:
            self._seen, self._grace_ns = moment, 0
        stayed = now_ns - moment.since_ns
        self._grace_ns += min(pause_ns, stayed)
        run = f"run() of {lone}" if lone else "run()"
        return _judged(moment.phase, (stayed - self._grace_ns) / _NS, limits, run)


def _judged(phase: int, stayed: float, limits: Limits, who: str) -> frames.Failure | None:
    run, overhead = limits.run_invocation_timeout, limits.task_overhead_timeout
    if phase == frames.RUNNING and stayed > run:
        sentence = f"{who} did not return within run_invocation_timeout ({run:g} seconds)."
        return frames.Failure(frames.Kind.RUN_TIMEOUT, sentence)
    if phase == frames.READING and stayed > overhead:
        sentence = f"The items could not be read within task_overhead_timeout ({overhead:g} seconds)."
        return frames.Failure(frames.Kind.READ_FAILED, sentence)
    if phase == frames.RENDERING and stayed > run + overhead:
        sentence = f"The result of {who} could not be written out within {run + overhead:g} seconds."
        return frames.Failure(frames.Kind.BAD_RESULT, sentence)
    return None
