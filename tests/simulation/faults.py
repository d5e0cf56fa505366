"""What befalls a world, until it is over: each seed draws which kinds, how often, and when."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .agent import Agent
    from .world import World

#: Seconds after which a silent connection is taken for broken.
_KEEPALIVE = 4.0


class Faults:
    """`most`: how many at most; `kinds`: of these alone, none for all. `over`: the second from which on all is well."""

    def __init__(self, world: World, most: int, kinds: Sequence[str]) -> None:
        self._world = world
        self._random = draw = world.random
        all_kinds: dict[str, Callable[[], None]] = {
            "crash": self._crash_scheduler,
            "freeze": self._freeze_scheduler,
            "usurp": self._usurp,
            "kill": self._kill_node,
            "stop": self._freeze_node,
            "cut": self._cut,
            "part": self._isolate_node,
            "mute": self._mute_node,
            "drain": self._drain_node,
            "damage": self._damage,
            "full": self._storage_away,
            "slow": self._slow_disk,
            "init": self._fail_pools,
            "cancel": self._cancel,
        }
        names = list(kinds) or draw.sample(list(all_kinds), draw.randint(0, 6))
        self._kinds = [all_kinds[name] for name in names]
        self._left = most
        self._mean = draw.choice((0.3, 1.0, 3.0))
        self.over = draw.choice((5.0, 20.0, 40.0)) if self._kinds and most else 0.0
        self._next()

    def _next(self) -> None:
        world = self._world
        wait = self._random.expovariate(1.0 / self._mean)
        if self._left and world.clock.now + wait < self.over:
            self._left -= 1
            world.clock.after(wait, self._happen)
        else:
            self.over = min(self.over, world.clock.now + wait)
            # The last node may be one that fails in init(): a sound one comes, as an operator would see to it.
            world.clock.at(self.over, world.new_agent)

    def _happen(self) -> None:
        self._random.choice(self._kinds)()
        self._next()

    def _short_or_long(self, longest: float) -> float:
        return self._random.random() * self._random.choice((0.2, 2.0, longest))

    # ---- the scheduler ----

    def _crash_scheduler(self) -> None:
        if self._world.shell.alive:
            self._world.crash_shell(self._short_or_long(8.0))

    def _freeze_scheduler(self) -> None:
        seconds = self._short_or_long(12.0)
        self._world.note(f"the scheduler stands still for {seconds:.2f} s")
        self._world.shell.freeze(seconds)

    def _usurp(self) -> None:
        """The scheduler stands still, is believed to be dead, and wakes beside the one in its place."""
        if self._world.shell.awake:
            self._world.usurp(self._short_or_long(6.0))

    # ---- nodes ----

    def _some_agent(self) -> Agent | None:
        agents = [agent for agent in self._world.agents.values() if agent.alive]
        return self._random.choice(agents) if agents else None

    def _kill_node(self) -> None:
        agent = self._some_agent()
        if agent is not None:
            self._world.kill(agent)

    def _freeze_node(self) -> None:
        agent = self._some_agent()
        if agent is None:
            return
        seconds = self._short_or_long(15.0)
        self._world.note(f"{agent.node_id} stands still for {seconds:.2f} s")
        agent.freeze(seconds)
        if seconds > _KEEPALIVE:
            for wire in self._world.wires_of(agent):
                self._world.clock.after(_KEEPALIVE, partial(wire.cut, 0.0, 0.0))

    def _drain_node(self) -> None:
        agent = self._some_agent()
        if agent is not None and not agent.draining:
            self._world.note(f"{agent.node_id} drains")
            agent.drain()

    def _fail_pools(self) -> None:
        agent = self._some_agent()
        if agent is not None and self._random.random() < 0.2:
            self._world.note(f"{agent.node_id} fails in init() from now on")
            agent.fails_pools = True

    # ---- the network ----

    def _cut(self) -> None:
        wires = [wire for wire in self._world.wires if not wire.is_cut]
        if wires:
            wire = self._random.choice(wires)
            shell_learns, agent_learns = self._short_or_long(_KEEPALIVE), self._short_or_long(_KEEPALIVE)
            self._world.note(f"a wire of {wire.job_id} is cut; known after {shell_learns:.2f}, {agent_learns:.2f} s")
            wire.cut(shell_learns, agent_learns)

    def _isolate_node(self) -> None:
        agent = self._some_agent()
        if agent is None:
            return
        seconds = self._short_or_long(15.0)
        now = self._world.clock.now
        self._world.note(f"{agent.node_id} cannot be reached for {seconds:.2f} s")
        self._world.unreachable[agent.node_id] = now + seconds
        for wire in self._world.wires_of(agent):
            if seconds > _KEEPALIVE:
                wire.cut(_KEEPALIVE, _KEEPALIVE * (0.5 + self._random.random()))
            else:
                wire.up.stall(now + seconds)
                wire.down.stall(now + seconds)

    def _mute_node(self) -> None:
        """Its heartbeats are lost, its streams live."""
        agent = self._some_agent()
        if agent is not None:
            seconds = self._short_or_long(15.0)
            self._world.note(f"the heartbeats of {agent.node_id} are lost for {seconds:.2f} s")
            self._world.mute[agent.node_id] = self._world.clock.now + seconds

    # ---- disks ----

    def _damage(self) -> None:
        frames = [attempt for attempt in self._world.storage.frames if attempt not in self._world.storage.damaged]
        if frames:
            attempt = self._random.choice(frames)
            self._world.note(f"the frame of attempt {attempt} is damaged")
            self._world.storage.damaged.add(attempt)

    def _storage_away(self) -> None:
        seconds = self._short_or_long(8.0)
        self._world.note(f"storage has no room for {seconds:.2f} s")
        self._world.storage.away_until = self._world.clock.now + seconds
        self._hold_up("no space left on device")
        self._world.clock.after(seconds, partial(self._hold_up, ""))

    def _hold_up(self, sentence: str) -> None:
        for agent in self._world.agents.values():
            agent.do(partial(agent.hold_up, sentence))

    def _slow_disk(self) -> None:
        database = self._world.database
        database.slowness = self._random.choice((0.001, 0.01, 0.1, 0.5, 2.0))

    # ---- clients ----

    def _cancel(self) -> None:
        if self._random.random() < 0.1:
            self._world.cancel(self._random.choice(list(self._world.books)))
