"""The world: scheduler, nodes, wires, database and storage, all drawn from one seed, and the faults that meet them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from batchmesh.scheduler.events import JobCancelled
from batchmesh.scheduler.machine import Machine
from batchmesh.scheduler.model import FINAL, State

from .agent import Agent
from .audit import Audit
from .book import Book
from .clock import Clock
from .database import Database, JobTable
from .faults import Faults
from .protections import Protections
from .shell import LEASE, Shell
from .storage import Storage
from .verdict import judge
from .violation import History, Violation
from .wire import Wire
from .workload import draw_workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batchmesh.scheduler.events import Command, Event
    from batchmesh.scheduler.model import Counts

    from .book import Part
    from .database import Row
    from .messages import Beat
    from .workload import Planned

#: Seconds after the last fault within which all jobs end.
_PATIENCE = 400.0
#: Seconds that a message takes at most, on a good day.
_DELAY = 0.01


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a world may be. A world that fails is tried again smaller."""

    nodes: int = 4
    mini_batches: int = 40
    jobs: int = 2
    faults: int = 1000
    #: Which kinds of faults there may be; empty: all.
    kinds: tuple[str, ...] = ()


class World:
    """One seed's world, from its first event until its jobs have ended."""

    def __init__(
        self,
        seed: int,
        shape: Shape | None = None,
        protections: Protections | None = None,
        machine: type[Machine] = Machine,
    ) -> None:
        shape = shape or Shape()
        self.random = random.Random(seed)
        self.clock = Clock()
        self.protections = protections or Protections()
        self.history = History()
        self.events = 0
        #: How often what has been told and commanded, by name; so that a walk can show what it has met.
        self.met: Counter[str] = Counter()
        self.database = Database(self.clock, self.random, self.protections.successes_stand)
        self.database.on_put = self._on_put
        self.database.on_undone = lambda job_id, row: self.books[job_id].on_undone(row)
        self.storage = Storage()
        self.books: dict[str, Book] = {}
        self.agents: dict[str, Agent] = {}
        self.wires: list[Wire] = []
        #: Until when a node cannot be reached, or its heartbeats are lost.
        self.unreachable: dict[str, float] = {}
        self.mute: dict[str, float] = {}
        self._machine = machine
        self._epoch = 0
        self._names = 0
        #: When the last heartbeats of each node came.
        self._beaten: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=16))
        self._flaked: set[tuple[str, int]] = set()
        for number in range(self.random.randint(1, shape.jobs)):
            workload = draw_workload(self.random, f"j{number}", shape.mini_batches)
            table = self.database.jobs[workload.job_id] = JobTable(workload)
            self.books[workload.job_id] = Book(table, LEASE, self.met, self.violated)
        self.faults = Faults(self, shape.faults, shape.kinds)
        self.shell = self._begin_shell()
        for _ in range(self.random.randint(1, shape.nodes)):
            self.new_agent()

    # ---- running it ----

    def live(self) -> None:
        """Runs until all jobs have ended, and judges their outputs. Raises Violation."""
        while any(table.state not in FINAL for table in self.database.jobs.values()):
            if self.clock.now > self.faults.over + _PATIENCE:
                states = {name: table.state.name for name, table in self.database.jobs.items()}
                self.violated(f"after {_PATIENCE:g} s without a fault jobs have not ended: {states}")
            try:
                self.clock.step()
            except Violation:
                raise
            except Exception as error:  # noqa: BLE001 an error of the Machine is a violation as well
                self._broke(error)
        for book in self.books.values():
            judge(book, self.storage)

    def _broke(self, error: Exception) -> NoReturn:
        raise Violation(f"{type(error).__name__}: {error}", self.history.told()) from error

    def violated(self, sentence: str) -> NoReturn:
        raise Violation(sentence, self.history.told())

    def note(self, what: str) -> None:
        """Something outside the Machine happened."""
        self.history.add(self.clock.now, what)

    def mishap(self, chance: float) -> bool:
        return self.clock.now < self.faults.over and self.random.random() < chance

    def handle(self, shell: Shell, event: Event, now: float) -> list[Command]:
        """Hands an event to a Machine, whose time is `now`. That of the scheduler that counts is audited."""
        if shell is not self.shell:
            return shell.machine.handle(event, now)
        self.events += 1
        job_id = getattr(event, "job_id", None)
        books = [self.books[job_id]] if job_id else list(self.books.values())
        audits = [Audit(book, shell.machine, event, now, self._held) for book in books]
        try:
            commands = shell.machine.handle(event, now)
        except Exception:
            self.history.add(now, event)
            raise
        self.history.add(now, event, commands)
        self.met.update(type(each).__name__ for each in (event, *commands))
        for audit in audits:
            audit.end(commands)
        return commands

    def _held(self, job_id: str, part: Part) -> list[int]:
        """Attempts of exactly this part that live nodes hold, or have ended well and not been told in vain."""
        key = (part.mini_batch, part.first, part.items)
        services = [agent.services.get(job_id) for agent in self.agents.values()]
        return [service.record[key] for service in services if service is not None and key in service.record]

    # ---- the scheduler ----

    def _begin_shell(self) -> Shell:
        self._epoch += 1
        self.shell = shell = Shell(self, self._epoch)
        for table in self.database.unfinished():
            shell.start(table)
        return shell

    def new_machine(self, epoch: int) -> Machine:
        return self._machine(epoch, LEASE)

    def crash_shell(self, seconds: float) -> None:
        """Kills the scheduler; it is started again after so many seconds."""
        self.note(f"the scheduler dies, for {seconds:.2f} s")
        self.shell.alive = False
        self.database.crash()
        for wire in self.wires:
            if wire.shell is self.shell:
                wire.cut(0.0, self.random.random() * self.random.choice((0.01, 4.0)), self.random.random() < 0.5)
        self.clock.after(seconds, self._begin_shell)

    def usurp(self, seconds: float) -> None:
        """Another scheduler begins while this one stands still, which wakes for a while; its writes come to nothing."""
        self.note(f"the scheduler is believed to be dead for {seconds:.2f} s")
        old = self.shell
        old.freeze(seconds)
        old.usurped = True
        self.database.crash()
        for wire in self.wires:
            if wire.shell is old:
                wire.cut(seconds, self.random.random())
        self._begin_shell()
        self.clock.after(seconds + self.random.random() * 10, partial(setattr, old, "alive", False))

    # ---- nodes and wires ----

    def new_agent(self, replaces: str = "") -> None:
        self._names += 1
        node_id = f"n{self._names}"
        self.agents[node_id] = Agent(self, node_id, self.random.randint(1, 4), replaces)
        self.note(f"{node_id} starts{f' in the place of {replaces}' if replaces else ''}")

    def kill(self, agent: Agent) -> None:
        """A node dies; another one comes, mostly in the same work folder."""
        self.note(f"{agent.node_id} dies")
        agent.die(self.random.choice((0.0, 0.1, 3.0)))
        self.agents.pop(agent.node_id, None)
        replaces = agent.node_id if self.random.random() < 0.7 else ""
        self.clock.after(self.random.random() * self.random.choice((0.5, 5.0)), partial(self.new_agent, replaces))

    def left(self, agent: Agent) -> None:
        """A node has drained and gone; another one comes."""
        self.note(f"{agent.node_id} leaves")
        agent.alive = False
        self.agents.pop(agent.node_id, None)
        self.clock.after(self.random.random() * 3, self.new_agent)

    def connect(self, shell: Shell, job_id: str, node_id: str) -> Wire:
        delay = 4.0 if self.mishap(0.05) else _DELAY
        agent = self.agents.get(node_id) if self.reachable(node_id) else None
        wire = Wire(self.clock, self.random, job_id, shell, agent, delay)
        self.wires = [each for each in self.wires if not each.is_cut]
        self.wires.append(wire)
        return wire

    def wires_of(self, agent: Agent) -> list[Wire]:
        return [wire for wire in self.wires if wire.agent is agent and not wire.is_cut]

    def reachable(self, node_id: str) -> bool:
        return self.unreachable.get(node_id, 0.0) <= self.clock.now

    def beat(self, beat: Beat) -> None:
        """A heartbeat on its way: it may be lost, late, or come twice."""
        mute = self.mute.get(beat.node_id, 0.0) > self.clock.now
        if mute or not self.reachable(beat.node_id) or self.mishap(0.1):
            return
        for _ in range(2 if self.mishap(0.1) else 1):
            delay = 2.5 if self.mishap(0.05) else _DELAY
            self.clock.after(self.random.random() * delay, partial(self._beat_came, beat))

    def _beat_came(self, beat: Beat) -> None:
        shell = self.shell
        self._beaten[beat.node_id].append(self.clock.now)
        if shell.alive:
            shell.do(lambda: shell.on_beat(beat))

    def given_up(self, shell: Shell, node_id: str) -> None:
        """The lease of a node is judged to be over: for all of it no heartbeat has come, heard or unheard, but for the
        short while that the scheduler may have slept."""
        since, until = self.clock.now - LEASE, self.clock.now - LEASE / 3
        if shell is self.shell and any(since < moment < until for moment in self._beaten[node_id]):
            self.violated(f"{node_id} was given up, and heartbeats of it have come within its lease")

    def ended_by_order(self, job_id: str, attempts: Iterable[int]) -> None:
        """A node ends attempts as it was asked to: the scheduler must not want them."""
        out = self.books[job_id].out
        wanted = [attempt for attempt in attempts if attempt in out and out[attempt].node_id]
        if wanted:
            self.violated(f"{job_id}: attempts {wanted} were ended on their node, and are wanted")

    # ---- jobs ----

    def planned(self, job_id: str, index: int) -> Planned:
        return self.database.jobs[job_id].workload.mini_batches[index]

    def flakes(self, job_id: str, index: int) -> bool:
        """Whether this is the first time that a mini-batch with a flaky item comes to its end."""
        first = (job_id, index) not in self._flaked
        self._flaked.add((job_id, index))
        return first

    def cancel(self, job_id: str) -> None:
        """A client cancels, again and again until it is told an end."""
        book, shell = self.books[job_id], self.shell
        if book.table.state in FINAL:
            return
        if not book.cancelled:
            self.note(f"a client cancels {job_id}")
        book.cancelled = True
        if shell.alive:
            shell.do(partial(shell.tell, JobCancelled(job_id)))
        self.clock.after(2.0, partial(self.cancel, job_id))

    def _on_put(self, job_id: str, row: Row) -> None:
        self.books[job_id].on_row(row)

    def reopen(self, table: JobTable, indexes: Sequence[int]) -> None:
        book = self.books[table.workload.job_id]
        for index in indexes:
            book.given_up.update(row.attempt for row in table.rows_of(index).values())
        self.database.reopen(table.workload.job_id, indexes)
        book.on_reopened(indexes)

    def counted(self, table: JobTable, told: Counts, true: Counts) -> None:
        """At a commit: what the Machine has counted is what the database holds."""
        told.retried_attempts = true.retried_attempts
        if table.state in (State.COMMITTING, State.RUNNING, State.PENDING) and told != true:
            self.violated(f"the Machine has counted {told}, the database holds {true}")
