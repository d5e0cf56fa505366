"""Dask: futures of a local cluster of processes, and its data frames."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask
import dask.dataframe as dd
import given as inputs
import no_op as no_op_script
import protocol
import two_columns
from distributed import Client, LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

dask.config.set({"distributed.admin.tick.limit": "60s"})


@contextmanager
def _cluster(given: dict[str, Any]) -> Iterator[Client]:
    workers = given["workers"]
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def no_op(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """A future for each mini-batch."""
    mini_batches = inputs.mini_batches(given["folder"], given["mini_batches"])
    with _cluster(given) as client:

        def run(every: list[list[str]]) -> list[str]:
            results = client.gather(client.map(no_op_script.run, every, pure=False))
            return [name for names in results for name in names]

        run(mini_batches[:200])
        yield lambda: run(mini_batches)


@contextmanager
def rows(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """A table through the function into part files."""
    read = dd.read_parquet if given["table"].endswith(".parquet") else dd.read_csv
    with _cluster(given):

        def run(table: str) -> None:
            read(table).map_partitions(two_columns.run).to_csv(f"{given['output']}/*.csv", index=False)

        run(given["small"])
        yield lambda: run(given["table"])


if __name__ == "__main__":
    protocol.serve(["dask", "distributed", "pandas", "pyarrow"], no_op=no_op, rows=rows)
