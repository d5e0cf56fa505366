"""Work that blocks, on threads for which the agent's end does not wait."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Thing = TypeVar("_Thing")


async def on_a_thread(work: Callable[[], _Thing], name: str) -> _Thing:
    """Whatever `work` raises is raised here; one who does not wait any more leaves it to itself."""
    done: Future[_Thing] = Future()
    done.set_running_or_notify_cancel()
    Thread(target=_do, args=(work, done), name=name, daemon=True).start()
    return await asyncio.wrap_future(done)


def _do(work: Callable[[], _Thing], done: Future[_Thing]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001 it is raised where the work was asked for
        done.set_exception(error)
