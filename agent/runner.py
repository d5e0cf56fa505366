"""The agent's end of one worker: what was sent to it, what came back, and what its end means for each mini-batch.

    line ──give()──▶ socket ──▶ worker ──▶ socket ──▶ results, in the order given
                                  └──▶ shared word ──▶ which mini-batch was running when it died

What it learns it tells its pool, on the event loop.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from . import frames
from .borrowed import Borrowed
from .capture import Pipe
from .frames import Failure
from .limits import Limits, Watch
from .window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from .process import WorkerProcess
    from .waiting import Attempt

_RECEIVE = 256 * 1024
#: A message of more bytes waits in the worker until there is room for it in the agent.
_LARGE = 1024 * 1024
#: A run() of more than this (nanoseconds) is not to be waited for by others that came along with it.
_LONG_NS = 50_000_000
#: Seconds that a worker which closed its socket has to end by itself, so that its exit status can be told.
_SOCKET_GRACE = 1.0


class Result(NamedTuple):
    """What a worker answered. `frame` is the frame if `kind` is 0, else a Failure as JSON; times are microseconds."""

    attempt: Attempt
    process: int
    frame: memoryview
    kind: int
    length: int
    rows: int
    succeeded: int
    failed: int
    started_us: int
    run_us: int
    elapsed_us: int


class Death(NamedTuple):
    """A worker has ended. `culprit` was being run, with its failure (None: it was ended on purpose); the others that it
    had were not begun, or their answers were lost. `times` are the culprit's: see Outbox.add_failed."""

    how: str
    culprit: Attempt | None
    failure: Failure | None
    unanswered: list[Attempt]
    times: tuple[int, int, int]
    #: Whether it ever answered a mini-batch.
    useful: bool


class Owner(Protocol):
    """Who a runner tells, on the event loop."""

    def on_ready(self, runner: Runner) -> None: ...
    def on_init_failed(self, runner: Runner, failure: Failure) -> None: ...
    def on_results(self, runner: Runner, results: list[Result]) -> None: ...
    def on_given_back(self, attempts: list[Attempt]) -> None: ...
    def on_death(self, runner: Runner, death: Death) -> None: ...
    def on_output(self, runner: Runner, stream: str, data: bytes) -> None: ...
    def on_fetch(self, runner: Runner, wish: bytes) -> None: ...
    def may_receive(self, size: int) -> bool: ...


class Runner:
    """One worker of one pool. Lives on the event loop."""

    def __init__(self, process: WorkerProcess, number: int, owner: Owner) -> None:
        """`number` tells it from the node's other live workers."""
        self.number = number
        self.ready = False
        #: Ends at its next idle moment; nothing more is given to it.
        self.ending = False
        self.idle_since = time.monotonic()
        self.started = time.monotonic()
        self.window = Window()
        self.sent: deque[Attempt] = deque()
        self._answered = 0
        self._process = process
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._inbox = frames.Inbox()
        self._outgoing = bytearray()
        self._watch = Watch()
        self._verdict: tuple[int, Failure | None] | None = None
        #: Its end is no news: it failed in init() and said so, or the agent ended it.
        self.was_told_to_end = False
        #: Sequence of the long mini-batch behind which the others were recalled, and of the last one of those.
        self._recalled = self._given_up = 0
        self._grace = _SOCKET_GRACE
        self._timers: list[asyncio.TimerHandle] = []
        self._receiving = True
        #: Bytes of the large message that is on its way, once there was room for it in the agent.
        self.incoming = 0
        self._borrowed = Borrowed()
        self._dead = False
        self._loop.add_reader(process.socket, self._on_readable)
        self._loop.add_reader(process.pidfd, self._on_exit)
        self._pipes = [
            Pipe(process.stdout.fileno(), lambda data: owner.on_output(self, "stdout", data)),
            Pipe(process.stderr.fileno(), lambda data: owner.on_output(self, "stderr", data)),
        ]

    # What it is told.

    def set_up(self, setup: dict[str, Any], job: bytes) -> None:
        self._send(frames.json_message(frames.SETUP, setup) + job)

    def take_job(self, job: bytes) -> None:
        """`job` is a JOB message. Only while nothing is with the worker."""
        assert not self.sent, "a worker serves one job at a time"
        self._watch = Watch()
        self._send(job)

    def give(self, attempts: list[Attempt]) -> None:
        """Sends mini-batches to the worker."""
        parts = []
        pack = frames.MINI_BATCH.pack
        for each in attempts:
            each.runner = self
            parts.append(pack(each.attempt_id, each.mini_batch, each.try_number, len(each.payload)))
            parts.append(each.payload)
        self.sent.extend(attempts)
        self._send(frames.run_message(parts))

    def take_fetched(self, answer: dict[str, Any], releases: list[Callable[[], None]]) -> None:
        """Answers a FETCH; `releases` give the paths of the answer back."""
        self._borrowed.add(0 if self._dead else self._process.word.read().sequence, releases)
        self._send(frames.json_message(frames.FETCHED, answer))

    def end(self, within: float, *, linger: bool) -> None:
        """Lets it finish what it has, call shutdown() and exit; kills it `within` seconds after it was told.

        `linger`: what it has started may use up that time after shutdown() has returned, as Python waits for threads.
        """
        self.ending = True
        self._grace = within if linger else _SOCKET_GRACE
        if self.sent or self._dead or self.was_told_to_end:
            return
        self.was_told_to_end = True
        self._send(frames.message(frames.END))
        self._after(within, self.kill)

    def kill(self) -> None:
        """Ends it and all that it started, now. on_death follows."""
        self.ending = self.was_told_to_end = True
        self._process.kill()

    def expect_ready(self, within: float, late: Callable[[Runner], None]) -> None:
        """Calls `late` unless init() has returned `within` seconds."""
        self._after(within, lambda: None if self.ready else late(self))

    def kill_for(self, attempt: Attempt, failure: Failure | None) -> None:
        """Ends the worker because of what it does with `attempt`; None: on purpose, and nobody's failure."""
        self._verdict = (self._answered + 1 + self.sent.index(attempt), failure)
        self.kill()

    # What it is asked.

    @property
    def pid(self) -> int:
        """Of its first process, and the number of its process group."""
        return self._process.pid

    @property
    def useful(self) -> bool:
        """Whether it has ever answered a mini-batch."""
        return self._answered > 0

    @property
    def busy(self) -> bool:
        return bool(self.sent)

    @property
    def held_up(self) -> bool:
        """What it runs takes long: whatever it was given now would wait, and no recall would reach it."""
        return max(self._recalled, self._given_up) > self._answered

    def running(self) -> Attempt | None:
        """The mini-batch that has begun and not been answered."""
        return self._at(self._process.word.read())

    def doing(self) -> str:
        """What it does now, as the end of a sentence."""
        moment = self._process.word.read()
        return during(moment.phase, self._process.word.called(moment.sequence))

    def overstay(self, now_ns: int, pause_ns: int, limits: Limits) -> tuple[Attempt, Failure] | None:
        """The attempt that has exceeded a limit, and which."""
        if not self.sent or self._dead or self._verdict:
            return None
        moment = self._process.word.read()
        attempt = self._at(moment)
        lone = self._process.word.called(moment.sequence)
        found = self._watch.judge(moment, now_ns, pause_ns, limits, lone)
        return (attempt, found) if attempt and found else None

    def recall(self, now_ns: int) -> list[Attempt]:
        """Mini-batches that wait behind a running one that takes long, from now on to be run elsewhere; each once.

        Called at each tick. The worker reads the recall before it begins one; it is safe to go by a tick later, when
        the same mini-batch is still running, for by then the worker cannot have missed it.
        """
        moment = self._process.word.read() if self.sent and not self._dead else None
        if moment is None or moment.phase != frames.RUNNING or now_ns - moment.since_ns < _LONG_NS:
            return []
        last = self._answered + len(self.sent)
        if self._recalled != moment.sequence:
            self._recalled = moment.sequence
            self._process.word.recall(moment.sequence + 1, last)
            return []
        if self._given_up == last:
            return []
        self._given_up = last
        return list(self.sent)[moment.sequence - self._answered :]

    def _runs_elsewhere(self, sequence: int) -> bool:
        return self._recalled < sequence <= self._given_up

    def _at(self, moment: frames.Moment) -> Attempt | None:
        at = moment.sequence - self._answered - 1
        return self.sent[at] if moment.phase != frames.IDLE and 0 <= at < len(self.sent) else None

    # The socket.

    def _send(self, data: bytes) -> None:
        if self._dead:
            return
        if self._outgoing:
            self._outgoing += data
            return
        sent = self._try_to_send(data)
        if sent < len(data):
            self._outgoing += data[sent:]
            self._loop.add_writer(self._process.socket, self._on_writable)

    def _try_to_send(self, data: bytes | bytearray) -> int:
        """Bytes sent; all of them when the worker is gone, for its end comes by another way."""
        try:
            return self._process.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def _on_writable(self) -> None:
        del self._outgoing[: self._try_to_send(self._outgoing)]
        if not self._outgoing:
            self._loop.remove_writer(self._process.socket)

    def _on_readable(self) -> None:
        expected = self._inbox.expected
        if expected > _LARGE and not self.incoming:
            if not self._owner.may_receive(expected):
                self._receiving = False
                self._loop.remove_reader(self._process.socket)
                return
            self.incoming = expected
        if self._receive() is False:
            self._loop.remove_reader(self._process.socket)
            self._after(self._grace, self._process.kill)

    def go_on_receiving(self) -> None:
        """There may be room again for a large result."""
        if not self._receiving and not self._dead:
            self._receiving = True
            self._loop.add_reader(self._process.socket, self._on_readable)

    def _receive(self) -> bool | None:
        """Takes one piece from the socket: None when there is none now, False when there will be none."""
        try:
            data = self._process.socket.recv(_RECEIVE)
        except BlockingIOError:
            return None
        except OSError:
            return False
        for kind, body in self._inbox.feed(data) if data else ():
            self._on_message(kind, body)
        return bool(data)

    def _on_message(self, kind: int, body: memoryview) -> None:
        if kind == frames.RESULTS:
            self._on_results(body)
        elif kind == frames.READY:
            self.ready = True
            self._owner.on_ready(self)
        elif kind == frames.FETCH:
            self._owner.on_fetch(self, bytes(body))
        elif kind == frames.INIT_FAILED:
            self.kill()
            self._owner.on_init_failed(self, Failure.decoded(bytes(body)))

    def _on_results(self, body: memoryview) -> None:
        results = []
        elapsed = []
        given_back = []
        unpack, header = frames.RESULT.unpack_from, frames.RESULT.size
        at, size, number, popleft = 0, len(body), self.number, self.sent.popleft
        while at < size:
            values = unpack(body, at)
            at += header + values[1]
            attempt = popleft()
            self._answered += 1
            if values[0] == frames.Kind.NOT_STARTED:
                if not self._runs_elsewhere(self._answered):
                    given_back.append(attempt)
                continue
            results.append(Result(attempt, number, body[at - values[1] : at], *values))
            elapsed.append(values[7])
        self._borrowed.answered(self._answered)
        self.window.saw(elapsed)
        self.idle_since = time.monotonic()
        self.incoming = 0
        if given_back:
            self._owner.on_given_back(given_back)
        self._owner.on_results(self, results)

    # Its end.

    def _on_exit(self) -> None:
        if self._dead:
            return
        how = self._process.reap()
        while self._receive():
            pass
        moment = self._process.word.read()
        sentence = f"The worker process {how} {self.doing()}."
        self._dead = True
        self._borrowed.give_back_all()
        self._close()
        death = self._death(how, Failure(frames.Kind.WORKER_CRASHED, sentence), self._at(moment), moment)
        self._owner.on_death(self, death)

    def _death(self, how: str, crash: Failure, culprit: Attempt | None, moment: frames.Moment) -> Death:
        """One that the agent ended for another reason than its running mini-batch is nobody's fault."""
        failure: Failure | None = crash
        if self._verdict and self._verdict[0] == moment.sequence:
            failure = self._verdict[1]
        elif self.was_told_to_end or self._runs_elsewhere(moment.sequence):
            culprit = None
        unanswered = [
            each
            for sequence, each in enumerate(self.sent, self._answered + 1)
            if each is not culprit and not self._runs_elsewhere(sequence)
        ]
        self.sent.clear()
        return Death(how, culprit, failure, unanswered, _times(moment), self.useful)

    def drain_output(self) -> None:
        """Takes what the worker has printed so far."""
        for pipe in self._pipes:
            pipe.read()

    def _close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self.drain_output()
        for pipe in self._pipes:
            pipe.close()
        self._loop.remove_reader(self._process.socket)
        self._loop.remove_writer(self._process.socket)
        self._loop.remove_reader(self._process.pidfd)
        self._process.close()
        self._loop.run_in_executor(None, shutil.rmtree, self._process.folder, True)

    def _after(self, seconds: float, call: Any) -> None:
        self._timers.append(self._loop.call_later(seconds, call))


def during(phase: int, lone: str) -> str:
    """What a worker was doing, as the end of a sentence. `lone` names its item if it has one only."""
    run = f"run() of {lone}" if lone else "run()"
    if phase == frames.IDLE:
        return "between two mini-batches"
    if phase == frames.READING:
        return "while it read the items"
    return f"during {run}" if phase == frames.RUNNING else f"after {run} had returned"


def _times(moment: frames.Moment) -> tuple[int, int, int]:
    """Unix microseconds at which run() began, microseconds in run() and in all, of what a dead worker was doing."""
    stayed_us = (time.monotonic_ns() - moment.since_ns) // 1000
    if moment.phase != frames.RUNNING:
        return (0, 0, stayed_us)
    return (time.time_ns() // 1000 - stayed_us, stayed_us, stayed_us)
