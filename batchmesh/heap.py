"""How a service process keeps its memory: it looks for cycles seldom, and reuses what it has freed."""

from __future__ import annotations

import ctypes
import gc

#: Objects made since the last look for cycles that lead to the next one.
_YOUNG = 20_000
#: Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
#: Freed bytes that one arena keeps at its top, and from which on a block is mapped by itself: glibc takes no more.
_KEPT = 32 * 2**20
#: Those of the main thread, and of all others together.
_ARENAS = 2


def set_up() -> None:
    """Called once, by the process of a service, before it has threads."""
    _collect_seldom()
    _reuse()


def _collect_seldom() -> None:
    """A service keeps ten thousands of small things that are in no cycle: to look through them took 5 % of its time."""
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)


def _reuse() -> None:
    """A message of some megabytes is copied five times on its way through gRPC. glibc would take fresh pages from the
    kernel for each copy and give them back, which took a third of the CPU of a copying service; and with an arena for
    each of gRPC's threads, what is kept is kept many times. Another C library does as it does."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    for parameter, value in ((_M_ARENA_MAX, _ARENAS), (_M_MMAP_THRESHOLD, _KEPT), (_M_TRIM_THRESHOLD, _KEPT)):
        mallopt(parameter, value)
