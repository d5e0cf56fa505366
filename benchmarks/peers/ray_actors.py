"""Ray actors: one a worker, each call a mini-batch."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import given as inputs
import no_op as script
import protocol
import ray

if TYPE_CHECKING:
    from collections.abc import Iterator


class Worker:
    """What runs in each actor."""

    def run(self, mini_batch: list[str]) -> list[str]:
        """One mini-batch."""
        return script.run(mini_batch)


@contextmanager
def no_op(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """Calls to the actors in turn, all on their way at once."""
    mini_batches, workers = inputs.mini_batches(given["folder"], given["mini_batches"]), given["workers"]
    ray.init(num_cpus=workers, include_dashboard=False)
    actors = [ray.remote(Worker).remote() for _ in range(workers)]

    def run(every: list[list[str]]) -> list[str]:
        results = [actors[number % workers].run.remote(each) for number, each in enumerate(every)]
        return [name for names in ray.get(results) for name in names]

    run(mini_batches[:1000])
    yield lambda: run(mini_batches)
    ray.shutdown()


if __name__ == "__main__":
    protocol.serve(["ray"], no_op=no_op)
