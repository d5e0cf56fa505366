"""concurrent.futures.ProcessPoolExecutor: what the standard library has for work that is submitted call by call."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import given as inputs
import no_op as script
import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_op(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """Mini-batches submitted one by one."""
    mini_batches = inputs.mini_batches(given["folder"], given["mini_batches"])
    with ProcessPoolExecutor(given["workers"]) as pool:
        list(pool.map(script.run, mini_batches[:1000]))

        def work() -> list[str]:
            futures = [pool.submit(script.run, each) for each in mini_batches]
            return [name for future in futures for name in future.result()]

        yield work


if __name__ == "__main__":
    protocol.serve([], no_op=no_op)
