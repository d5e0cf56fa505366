"""Worlds in which one protection is switched off: each must go wrong, or the walk shows nothing about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.scheduler import attempts, isolation
from batchmesh.scheduler.events import Abort, AttemptsEnded, AttemptsHeld, JobSubmitted, NodeLost
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import ACTIVE

from .protections import Protections
from .walk import Walk
from .world import Shape

if TYPE_CHECKING:
    from batchmesh.scheduler.events import Command, Event


class CountsWhatItDoesNotKnow(Machine):
    """Counts the end of an attempt whether or not it is out."""

    def _attempts_ended(self, event: AttemptsEnded, now: float) -> list[Command]:
        job = self.jobs.get(event.job_id)
        for end in event.ends:
            if job is not None and end.attempt_id not in job.running and end.failure is None:
                job.counts.succeeded_items += end.succeeded_items
        return super()._attempts_ended(event, now)


class TakesOverWhatRunsElsewhere(Machine):
    """Goes on with a held attempt although another one is at its mini-batch."""

    def _held(self, event: AttemptsHeld, now: float) -> list[Command]:
        commands = super()._held(event, now)
        job = self.jobs.get(event.job_id)
        if job is None or job.state not in ACTIVE:
            return commands
        out = {(each.mini_batch.index, each.mini_batch.part): each.mini_batch for each in job.running.values()}
        for each in event.attempts:
            if each.attempt_id not in job.running and (each.index, each.part) in out:
                attempts.begin(job, each.attempt_id, out[each.index, each.part], event.node_id, now)
        return [command for command in commands if not isinstance(command, Abort)]


class DispatchesAtOnce(Machine):
    """Waits for nobody."""

    def _submitted(self, event: JobSubmitted, now: float) -> list[Command]:
        commands = super()._submitted(event, now)
        self.jobs[event.job_id].awaited.clear()
        return commands


class CountsLosses(Machine):
    """Counts the loss of a node as a try of what was out on it."""

    def _node_lost(self, event: NodeLost, now: float) -> list[Command]:
        for job in self.jobs.values():
            for attempt in attempts.out_on(job, event.node_id):
                job.running[attempt].mini_batch.tries += 1
        return super()._node_lost(event, now)


class DecidesPartByPart(Machine):
    """Begins the next level of an isolation as soon as one part has failed."""

    def _attempts_ended(self, event: AttemptsEnded, now: float) -> list[Command]:
        commands = super()._attempts_ended(event, now)
        job = self.jobs.get(event.job_id)
        for split in list(job.isolations.values()) if job is not None else ():
            if job is not None and split.failed:
                old = list(split.open)
                attempts.wait_first(job, [each for each in isolation.next_level(split) if each not in old])
        return commands


class LetsLosersRun(Machine):
    """Does not end the slower of two attempts."""

    def handle(self, event: Event, now: float) -> list[Command]:
        commands = super().handle(event, now)
        keep = isinstance(event, AttemptsHeld)
        return [command for command in commands if keep or not isinstance(command, Abort)]


def _without(*protections: str) -> Protections:
    return Protections(**dict.fromkeys(protections, False))


def _kinds(*kinds: str) -> Shape:
    return Shape(kinds=kinds)


#: What is switched off, in a world of the faults against which it protects.
CONTROLS = {
    "a success is replaced in the database": Walk(_kinds("part", "slow"), _without("successes_stand")),
    "outcomes of unknown attempts count": Walk(
        _kinds("part", "cut"), _without("only_wanted_outcomes"), CountsWhatItDoesNotKnow
    ),
    "a held attempt is taken over though its mini-batch runs elsewhere": Walk(
        _kinds("part", "stop"), machine=TakesOverWhatRunsElsewhere
    ),
    "a dispatch before all nodes have spoken": Walk(_kinds("crash"), machine=DispatchesAtOnce),
    "no node is expected after a restart": Walk(_kinds("crash"), _without("expected_nodes")),
    "the loss of a node is a try": Walk(_kinds("kill"), machine=CountsLosses),
    "leases never end": Walk(_kinds("kill"), _without("leases")),
    "leases are judged by a scheduler that slept": Walk(_kinds("freeze"), _without("awake_before_judging")),
    "a closed stream is heard": Walk(_kinds("mute", "slow"), _without("closed_streams")),
    "the end of an isolation is not written": Walk(Shape(), _without("seals")),
    "outcomes are forgotten when they are sent": Walk(_kinds("crash", "cut"), _without("acknowledged")),
    "outcomes are acknowledged when they come": Walk(_kinds("crash", "slow"), _without("acknowledged_when_durable")),
    "outcomes are told before they are durable": Walk(_kinds("crash", "slow"), _without("durable_before_told")),
    "an earlier scheduler is obeyed": Walk(_kinds("usurp"), _without("fencing")),
    "what was opened for a node is fed again": Walk(_kinds("usurp", "slow"), _without("opened_once")),
    "what is recorded is taken over again": Walk(_kinds("crash", "slow"), _without("recorded_once")),
    "a node is lost before what it told is counted": Walk(_kinds("part", "slow"), _without("told_before_lost")),
    "the search for bad items decides part by part": Walk(Shape(), machine=DecidesPartByPart),
    "the slower of two attempts runs on": Walk(_kinds("slow"), machine=LetsLosersRun),
}
