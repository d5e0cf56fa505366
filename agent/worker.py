"""A worker: a fresh interpreter that loads the entry script once and calls run() for each mini-batch.

    socket ──▶ queue ──read──▶ items ──run()──▶ result ──render──▶ frame ──▶ replies ──(joined up to 5 ms)──▶ socket

Executed by the agent as `python batchmesh-worker-….pyz SOCKET_FD WORD_FD AGENT_PID` (see zipapp). It runs in the user's
Python: CPython 3.9 syntax, standard library only. The names that the loop uses are bound here before the user's code
can replace them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections import deque
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any

from batchmesh import azureml_names

from . import asking, frames
from .attempt import Attempt, Failed, MiniBatch, Recalled
from .entry import EntryScript, ScriptFailed, failure_of, flush_output, log_beside
from .replies import AgentGone, Replies

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchmesh.rows.rendering import Renderer

#: Below this a mini-batch is short (nanoseconds).
_SHORT_NS = 1_000_000
#: So many short runs in a row make the next one likely to be short.
_STEADY = 8
_RECEIVE = 256 * 1024
#: Milliseconds after which who waits for an answer looks whether another thread has received it.
_LOOK_AGAIN_MS = 20
#: The socket lives at this descriptor or above, out of the way of scripts that close or reuse small ones.
_HIGH_FD = 200
_PR_SET_PDEATHSIG = 1
#: What the kernel adds to the size of a worker when it looks for the largest process, in thousandths of the memory.
_OOM_SCORE = 500


class Link:
    """The worker's end of the socket: it waits where it must, and never holds a lock of the user's."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket, fd = ours, ours.fileno()
        self._socket.setblocking(False)
        self._receive, self._send = self._socket.recv, self._socket.send
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(fd, select.POLLIN)
        self._writable.register(fd, select.POLLOUT)
        self._inbox = frames.Inbox()
        #: Held while bytes are cut into messages, never while one waits.
        self._sorting = threading.Lock()
        self._asking = threading.Lock()
        #: A thread is in `receive`; set under `_sorting`.
        self._receiving = False
        self._messages: list[tuple[int, memoryview]] = []
        self._answers: list[bytes] = []

    def receive(self) -> list[tuple[int, memoryview]]:
        """Waits for at least one whole message, answers aside. Errors: AgentGone."""
        with self._sorting:
            self._receiving = True
        try:
            while not self._messages:
                if not self._take():
                    self._readable.poll()
        finally:
            self._receiving = False
        with self._sorting:
            messages, self._messages = self._messages, []
        return messages

    def exchange(self, ask: Callable[[], object]) -> bytes:
        """Calls `ask`, which sends a question, and waits for its answer; what else comes is left to `receive`.

        Any thread may call it; while another one is in `receive`, that one takes what comes, for it would not wake up
        for what is gone from the socket. Errors: AgentGone.
        """
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        with self._asking:
            ask()
            while not self._answers:
                if self._receiving:
                    sleep(_LOOK_AGAIN_MS / 1000)
                elif not self._take(asking=True):
                    readable.poll(_LOOK_AGAIN_MS)
            return self._answers.pop()

    def _take(self, *, asking: bool = False) -> bool:
        """Sorts what is there now into messages and answers; False if that is nothing, or not the asker's to take."""
        with self._sorting:
            if asking and self._receiving:
                return False
            try:
                data = self._receive(_RECEIVE)
            except BlockingIOError:
                return False
            except ConnectionError:
                data = b""
            if not data:
                raise AgentGone
            for kind, body in self._inbox.feed(data):
                if kind == frames.FETCHED:
                    self._answers.append(bytes(body))
                else:
                    self._messages.append((kind, body))
        return True

    def send(self, part: bytes) -> None:
        """Sends all of it, waiting for room. Errors: AgentGone."""
        view = memoryview(part)
        while view:
            try:
                view = view[self._send(view) :]
            except BlockingIOError:
                self._writable.poll()
            except ConnectionError:
                raise AgentGone from None


class Worker:
    """The loop. All its waits are for the agent; all its failures but the agent's end are data."""

    def __init__(self, link: Link, word: frames.Word) -> None:
        self._link = link
        self._word = word
        self._queue: deque[MiniBatch] = deque()
        self._replies = Replies(link)
        self._sequence = 0
        self._short_runs = 0
        self._free_since_ns = 0
        self._ended = False
        self._script: EntryScript | None = None
        self._renderer: Renderer | None = None
        self._max_result_bytes = 0
        asking.begin(self._exchange)

    def serve(self) -> int:
        """Runs until the agent says END (0), init() fails (1), or the agent is gone (raises AgentGone)."""
        while not self._ended:
            if self._queue:
                self._one(self._queue.popleft())
                continue
            self._flush()
            self._word.say(self._sequence, frames.IDLE)
            for kind, body in self._link.receive():
                if not self._take(kind, body):
                    return 1
        return 0

    def _take(self, kind: int, body: memoryview) -> bool:
        if kind == frames.RUN:
            self._queue_up(body)
        elif kind == frames.JOB:
            self._next_job(json.loads(bytes(body)))
        elif kind == frames.SETUP:
            return self._set_up(json.loads(bytes(body)))
        elif kind == frames.END:
            self._ended = True
            self._shut_down()
        return True

    def _queue_up(self, body: memoryview) -> None:
        self._free_since_ns = monotonic_ns()
        at, size = 0, len(body)
        while at < size:
            attempt_id, number, try_number, length = frames.MINI_BATCH.unpack_from(body, at)
            at += frames.MINI_BATCH.size + length
            self._queue.append(MiniBatch(attempt_id, number, try_number, bytes(body[at - length : at])))

    def _set_up(self, fields: dict[str, Any]) -> bool:
        """Loads the script and calls init(); False when that failed, which the agent has then been told."""
        sys.argv[:] = fields["argv"]
        os.environ["BATCHMESH_WORKING_FOLDER"] = os.getcwd()
        azureml_names.serve(asking.ask)
        logging.basicConfig(
            level=fields["logging_level"],
            stream=sys.stderr,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        try:
            self._script = EntryScript(fields["root"], fields["script"])
        except ScriptFailed as failed:
            log_beside(logging.ERROR, "%s\n%s", failed, failed.failure.traceback)
            flush_output()
            self._link.send(frames.json_message(frames.INIT_FAILED, failed.failure))
            return False
        flush_output()
        self._link.send(frames.message(frames.READY))
        return True

    def _next_job(self, fields: dict[str, Any]) -> None:
        os.environ.update(fields["variables"])
        self._max_result_bytes = fields["max_result_bytes"]
        self._renderer = _renderer(fields)
        _import_early(fields["libraries"])

    def _shut_down(self) -> None:
        if self._script is None:
            return
        try:
            self._script.shutdown()
        except BaseException as error:  # noqa: BLE001  the results are safe; that is all an error here can say
            log_beside(logging.ERROR, "%s", failure_of(frames.Kind.RUN_RAISED, "shutdown()", error).traceback)

    def _one(self, mini_batch: MiniBatch) -> None:
        """Runs one mini-batch and queues its reply."""
        self._sequence += 1
        attempt = Attempt(mini_batch, self._sequence, self._word)
        try:
            self._word.say(self._sequence, frames.READING)
            if self._word.is_recalled(self._sequence):
                raise Recalled(frames.Failure(frames.Kind.NOT_STARTED, "It was recalled."))
            assert self._script is not None
            assert self._renderer is not None
            frame = attempt.go(self._script, self._renderer, self._max_result_bytes)
            kind = 0
        except Recalled as recalled:
            frame, kind = b"", recalled.failure.kind
        except Failed as failed:
            log_beside(logging.ERROR, "mini-batch %d: %s\n%s", mini_batch.number, failed, failed.failure.traceback)
            frame = failed.failure.encoded()
            kind = failed.failure.kind
        ended_ns = monotonic_ns()
        began_ns, run_ns = self._free_since_ns, attempt.run_ns
        self._free_since_ns = attempt.returned_ns or ended_ns
        self._replies.add(
            frames.RESULT.pack(
                kind,
                len(frame),
                attempt.rows,
                attempt.succeeded,
                attempt.failed,
                attempt.started_us,
                run_ns // 1000,
                (ended_ns - began_ns) // 1000,
            ),
            frame,
        )
        self._short_runs = self._short_runs + 1 if ended_ns - began_ns < _SHORT_NS else 0
        if self._short_runs < _STEADY or self._replies.due(ended_ns):
            self._flush()

    def _exchange(self, question: bytes) -> bytes:
        return self._link.exchange(lambda: self._replies.send(question))

    def _flush(self) -> None:
        if self._replies:
            self._word.say(self._sequence, frames.SENDING)
            self._replies.flush()


def _renderer(fields: dict[str, Any]) -> Renderer:
    """What makes rows of the job's results; where its library cannot be imported, each result fails and says so."""
    from batchmesh.rows import rendering

    if not fields["append_row"]:
        return rendering.counting_renderer()
    try:
        return rendering.renderer_for(fields["append_row_file_name"], fields["dataframe_header"], fields["to_csv_json"])
    except ImportError as error:
        return rendering.unable_renderer(error)


def _import_early(libraries: list[str]) -> None:
    """What the job's mini-batches will need, while they are still being planned. What fails, fails again, and is told,
    where it is needed."""
    for each in libraries:
        with contextlib.suppress(Exception):
            __import__(each)


def main(arguments: list[str]) -> int:
    """Serves until the agent ends it. Returns the exit status."""
    socket_fd, word_fd, agent_pid = (int(each) for each in arguments)
    _end_with(agent_pid)
    _end_before_the_agent()
    link = Link(socket.socket(fileno=_moved_up(socket_fd)))
    word = frames.Word(word_fd)
    os.close(word_fd)
    _set_up_output()
    try:
        status = Worker(link, word).serve()
    except AgentGone:
        os.killpg(0, signal.SIGKILL)
    flush_output()
    return status


def _end_with(agent_pid: int) -> None:
    """Asks the kernel (Linux) to kill this process when the agent's main thread ends; notices one that ended before."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != agent_pid:
        os._exit(1)


def _end_before_the_agent() -> None:
    """Where memory runs out for the whole node, the kernel (Linux) ends a worker first, or what that has started."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+") as file:
        if int(file.read()) < _OOM_SCORE:
            file.seek(0)
            file.write(str(_OOM_SCORE))


def _moved_up(fd: int) -> int:
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD)
    except (OSError, ValueError):
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def _set_up_output() -> None:
    """What the script prints is read while it runs, so it is passed on line by line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
