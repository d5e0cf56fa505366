"""The worker's end of the socket, when another thread of the script asks while the loop waits for mini-batches."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from batchmesh.agent import frames
from batchmesh.agent.worker import Link

#: Times that both come at once; and seconds within which each of them has long been heard.
ROUNDS, PATIENCE = 50, 10.0


def test_what_comes_together_with_an_answer_reaches_the_loop_that_waits() -> None:
    ours, theirs = socket.socketpair()
    link = Link(theirs)
    both = frames.json_message(frames.JOB, {}) + frames.json_message(frames.FETCHED, {"paths": []})
    waits = threading.Barrier(3)

    def receive() -> int:
        waits.wait(PATIENCE)
        return sum(1 for _ in link.receive())

    def ask() -> bytes:
        waits.wait(PATIENCE)
        return link.exchange(lambda: None)

    pool = ThreadPoolExecutor(2)
    with ours, theirs:
        for _ in range(ROUNDS):
            loop, other = pool.submit(receive), pool.submit(ask)
            waits.wait(PATIENCE)
            ours.send(both)
            try:
                assert loop.result(PATIENCE) == 1
                assert other.result(PATIENCE) == b'{"paths": []}'
            except TimeoutError:
                ours.send(both)  # so that the threads end
                raise
    pool.shutdown()
