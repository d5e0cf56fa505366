"""A streaming call made beside the caller's thread: a Ctrl-C that met the main thread within gRPC could leave a lock of
the call taken for good, and the process would never end.

    thread ──begin()──▶ call ──each answer──▶ a place for one ──▶ whoever iterates
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

#: Seconds between two looks whether anybody still iterates.
_LOOK = 0.5


class _End:
    """Comes after the last answer."""


def heard(begin: Callable[[], Any]) -> Generator[Any]:
    """The answers of the call that `begin` makes, which is cancelled when the iterator is closed.

    The call has to have a deadline. Errors: what the call raises.
    """
    listener = _Listener(begin)
    try:
        while not isinstance(answer := listener.told.get(), _End):
            if isinstance(answer, Exception):
                raise answer
            yield answer
    finally:
        listener.stop()


class _Listener:
    def __init__(self, begin: Callable[[], Any]) -> None:
        self.told: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._begin = begin
        self._call: Any = None
        self._over = threading.Event()
        threading.Thread(target=self._listen, daemon=True, name="batchmesh-listener").start()

    def stop(self) -> None:
        self._over.set()
        if self._call is not None:
            self._call.cancel()

    def _listen(self) -> None:
        try:
            self._call = call = self._begin()
            for answer in call:
                self._hand_on(answer)
                if self._over.is_set():
                    call.cancel()
                    return
            self._hand_on(_End())
        except Exception as error:  # noqa: BLE001 it is raised where it is waited for
            self._hand_on(error)

    def _hand_on(self, answer: Any) -> None:
        while not self._over.is_set():
            try:
                self.told.put(answer, timeout=_LOOK)
            except queue.Full:
                continue
            return
