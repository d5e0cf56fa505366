"""One stream between a scheduler and an agent: in order each way, and late; each end learns of a cut when it may."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from .agent import Agent
    from .clock import Action, Clock, Process
    from .messages import Request, Response
    from .shell import Shell


class End(enum.Enum):
    """How a stream ended, as its scheduler sees it."""

    RETURNED = "the agent returned"
    REFUSED = "the agent refused it"
    BROKEN = "the transport broke"


class Lane:
    """One direction of a wire. `delay`: seconds that a message takes at most."""

    def __init__(self, clock: Clock, random: random.Random, delay: float) -> None:
        self.lost = False
        self._clock = clock
        self._random = random
        self._delay = delay
        self._last = 0.0

    def stall(self, until: float) -> None:
        """Nothing more arrives before that moment."""
        self._last = max(self._last, until)

    def send(self, receiver: Process, action: Action) -> None:
        if self.lost:
            return
        self._last = max(self._last, self._clock.now + self._random.random() * self._delay)
        self._clock.at(self._last, lambda: None if self.lost else receiver.do(action))


class Wire:
    """`agent` is None where nobody listens."""

    def __init__(
        self, clock: Clock, random: random.Random, job_id: str, shell: Shell, agent: Agent | None, delay: float
    ) -> None:
        self.job_id = job_id
        self.down = Lane(clock, random, delay)
        self.up = Lane(clock, random, delay)
        self._clock = clock
        self.shell = shell
        self.agent = agent
        self.is_cut = False

    def open(self, epoch: int, lease: float) -> None:
        agent = self.agent
        if agent is None or not agent.alive:
            self.cut(0.1, 0.1)
        else:
            self.down.send(agent, lambda: agent.on_open(self, epoch, lease))

    def request(self, request: Request) -> None:
        agent = self.agent
        if agent is not None:
            self.down.send(agent, lambda: agent.on_request(self, request))

    def respond(self, response: Response) -> None:
        self.up.send(self.shell, lambda: self.shell.on_response(self, response))

    def end(self, how: End) -> None:
        """The agent ends the call; the scheduler learns of it after all that was said before."""
        self.down.lost = True
        self.up.send(self.shell, lambda: self.shell.on_end(self, how))
        self.is_cut = True

    def cut(self, shell_learns: float, agent_learns: float, drop_down: bool = True) -> None:
        """Breaks it: what is under way is lost, and each end learns of it after so many seconds."""
        if self.is_cut:
            return
        self.is_cut = True
        self.up.lost = True
        self.down.lost = drop_down
        self._clock.after(shell_learns, lambda: self.shell.do(lambda: self.shell.on_end(self, End.BROKEN)))
        agent = self.agent
        if agent is not None:
            self._clock.after(agent_learns, lambda: agent.do(lambda: agent.on_cut(self)))
