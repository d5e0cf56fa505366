"""multiprocessing.Pool.imap: the barest pool that there is; a worker that dies leaves it waiting for ever."""

from __future__ import annotations

from contextlib import contextmanager
from multiprocessing import Pool
from typing import TYPE_CHECKING, Any

import given as inputs
import no_op as script
import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_op(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """Mini-batches one by one, as imap takes them by default."""
    mini_batches = inputs.mini_batches(given["folder"], given["mini_batches"])
    with Pool(given["workers"]) as pool:
        pool.map(script.run, mini_batches[:1000])

        def work() -> list[str]:
            return [name for names in pool.imap(script.run, mini_batches) for name in names]

        yield work


if __name__ == "__main__":
    protocol.serve([], no_op=no_op)
