"""The agents of local compute targets, which the supervisor starts and ends as the scheduler asks.

    scheduler ──demands──▶ socket ──▶ Crew ──starts, ends──▶ agents (--compute-target NAME)
              ◀──what there is, what went wrong──┘

The lines are those of the scheduler's demand.py. While no scheduler speaks, the agents stay as they are. An agent that
dies is started again in the work folder of the dead one, whose place it takes.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from batchmesh.deaths import Deaths

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from batchmesh.child import Child

    #: Starts the agent of that number, target and slots (0: the host's cores).
    Start = Callable[[int, str, int], Child]

#: Seconds within which an agent that was told to end has finished what it had; then it is killed.
DRAIN_SECONDS = 60.0
#: Bytes of one line at most: the addresses of a thousand idle agents.
LINE_BYTES = 2**20
_KILL_SECONDS = DRAIN_SECONDS + 15.0
#: Seconds before an agent that dies again and again is tried once more.
_LONG_PAUSE = 10.0


class Demand(NamedTuple):
    """How many agents a target should have; `idle` are the addresses of those that have nothing to do."""

    compute_target: str
    nodes: int
    slots: int
    idle: Collection[str] = ()


class Place(NamedTuple):
    """One agent of the crew: alive, or dead and about to be started again."""

    number: int
    compute_target: str
    slots: int
    address: str
    alive: bool = True
    #: It was told to end.
    ending: bool = False


class Changes(NamedTuple):
    """What there is to do: (number, target, slots) of agents to start, numbers of those to end."""

    start: list[tuple[int, str, int]]
    end: list[int]


def changes(places: Collection[Place], demands: Iterable[Demand]) -> Changes:
    """What makes the crew what it should be. Of a target that stays as it was only agents end that are idle or dead."""
    wanted = {demand.compute_target: demand for demand in demands}
    staying = [place for place in places if not place.ending and _fits(place, wanted)]
    end = [place.number for place in places if not place.ending and not _fits(place, wanted)]
    free = _free_numbers(places)
    start: list[tuple[int, str, int]] = []
    for demand in wanted.values():
        here = [place for place in staying if place.compute_target == demand.compute_target]
        end += _surplus(here, demand)
        missing = max(0, demand.nodes - len(here))
        start += [(next(free), demand.compute_target, demand.slots) for _ in range(missing)]
    return Changes(start, end)


def _fits(place: Place, wanted: dict[str, Demand]) -> bool:
    return place.compute_target in wanted and wanted[place.compute_target].slots == place.slots


def _surplus(here: list[Place], demand: Demand) -> list[int]:
    """Those that may end, the dead and then the youngest first."""
    may_end = [place for place in here if not place.alive or place.address in demand.idle]
    may_end.sort(key=lambda place: (place.alive, -place.number))
    return [place.number for place in may_end[: max(0, len(here) - demand.nodes)]]


def _free_numbers(places: Collection[Place]) -> Iterator[int]:
    taken = {place.number for place in places}
    return (number for number in count(1) if number not in taken)


@dataclass(slots=True)
class _Member:
    compute_target: str
    slots: int
    address: str
    #: None between its death and its next start.
    child: Child | None
    ending: bool = False
    timer: asyncio.TimerHandle | None = None


class Crew:
    """Owns those agents from their start to their end. All of it runs on the event loop."""

    def __init__(self, start: Start, address_of: Callable[[int], str], ready: asyncio.Event) -> None:
        """`address_of` says where the agent of a number listens; nothing starts before `ready`."""
        self._start = start
        self._address_of = address_of
        self._ready = ready
        self._members: dict[int, _Member] = {}
        self._deaths: dict[int, Deaths] = {}
        self._scheduler: asyncio.StreamWriter | None = None
        self._over = False

    @property
    def pids(self) -> set[int]:
        return {member.child.pid for member in self._members.values() if member.child is not None}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One scheduler, for as long as it lives."""
        self._scheduler = writer
        targets = [member.compute_target for member in self._members.values() if not member.ending]
        self._tell(crew={target: targets.count(target) for target in targets})
        with suppress(ConnectionError):
            while line := await reader.readline():
                await self._ready.wait()
                self._change([Demand(**demand) for demand in json.loads(line)["demands"]])
        writer.close()

    def leave(self) -> list[Child]:
        """The end of the mesh: nothing is started any more. Returns the agents that live, for the caller to end."""
        self._over = True
        for member in self._members.values():
            if member.timer is not None:
                member.timer.cancel()
        return [member.child for member in self._members.values() if member.child is not None]

    def notice_deaths(self) -> None:
        """Forgets agents that have ended as they were told, and has those started again that have died."""
        for number, member in list(self._members.items()):
            if member.child is not None and member.child.poll() is not None and not self._over:
                self._bury(number, member, member.child)

    def _change(self, demands: list[Demand]) -> None:
        if self._over:
            return
        todo = changes([_place(*each) for each in self._members.items()], demands)
        for number in todo.end:
            self._end(number)
        for number, target, slots in todo.start:
            self._members[number] = member = _Member(target, slots, self._address_of(number), None)
            self._begin(number, member)

    def _begin(self, number: int, member: _Member) -> None:
        member.timer = None
        try:
            member.child = self._start(number, member.compute_target, member.slots)
        except OSError as error:
            self._again(number, member, f"An agent of {member.compute_target} could not be started: {error}.")
            return
        member.child.ready.add_done_callback(lambda ready: self._serves(member, ready))

    def _serves(self, member: _Member, ready: asyncio.Future[str]) -> None:
        if not ready.cancelled() and ready.exception() is None:
            self._tell(compute_target=member.compute_target, error="")

    def _end(self, number: int) -> None:
        """It finishes what it has; one that was about to be started again is not."""
        member = self._members[number]
        if member.timer is not None:
            member.timer.cancel()
        if member.child is None:
            del self._members[number]
            return
        member.ending = True
        member.child.terminate()
        member.timer = asyncio.get_running_loop().call_later(_KILL_SECONDS, member.child.kill)

    def _bury(self, number: int, member: _Member, child: Child) -> None:
        words, was_ready = child.last_words(), child.was_ready
        child.close()
        member.child = None
        if member.ending:
            self._end(number)
        else:
            self._again(number, member, words, was_ready=was_ready)

    def _again(self, number: int, member: _Member, words: str, *, was_ready: bool = False) -> None:
        """Another start in a while; when that has been tried often enough, the scheduler hears why it does not help."""
        pause = self._deaths.setdefault(number, Deaths()).add(time.monotonic(), was_ready=was_ready)
        if pause is None or not was_ready:
            self._tell(compute_target=member.compute_target, error=words)
        loop = asyncio.get_running_loop()
        member.timer = loop.call_later(_LONG_PAUSE if pause is None else pause, self._begin, number, member)

    def _tell(self, **line: Any) -> None:
        if self._scheduler is not None and not self._scheduler.is_closing():
            self._scheduler.write(json.dumps(line).encode() + b"\n")


def _place(number: int, member: _Member) -> Place:
    alive = member.child is not None
    return Place(number, member.compute_target, member.slots, member.address, alive, member.ending)
