"""Ray Data: map_batches over a data set."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import classify
import given as inputs
import no_op as no_op_script
import protocol
import ray
import two_columns

if TYPE_CHECKING:
    from collections.abc import Iterator


def _init(given: dict[str, Any]) -> None:
    ray.init(num_cpus=given["workers"], include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False


def _names(batch: dict[str, Any]) -> dict[str, Any]:
    return {"name": no_op_script.run(batch["item"].tolist())}


@contextmanager
def no_op(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """A data set of paths, in batches of ten."""
    _init(given)
    paths = inputs.paths(given["folder"], given["mini_batches"] * inputs.SIZE)

    def run(every: list[str]) -> list[str]:
        names = ray.data.from_items(every).map_batches(_names, batch_size=inputs.SIZE)
        return [row["name"] for row in names.iter_rows()]

    run(paths[:1000])
    yield lambda: run(paths)
    ray.shutdown()


@contextmanager
def rows(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """A table through the function into part files."""
    _init(given)
    read = ray.data.read_parquet if given["table"].endswith(".parquet") else ray.data.read_csv

    def run(table: str) -> None:
        function: Any = two_columns.run
        read(table).map_batches(function, batch_format="pandas", batch_size=given["batch"]).write_csv(given["output"])

    run(given["small"])
    yield lambda: run(given["table"])
    ray.shutdown()


class _Classifier:
    """What runs in each actor: init() once, run() for each batch."""

    def __init__(self) -> None:
        classify.init()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"line": classify.run(batch["item"].tolist())}


@contextmanager
def files(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """A data set of paths, in batches of ten; a class that loads its model once."""
    _init(given)

    def run(folders: list[str]) -> None:
        paths = [entry.path for folder in folders for entry in os.scandir(folder)]
        size, actors = inputs.SIZE, given["workers"]
        lines = ray.data.from_items(sorted(paths)).map_batches(_Classifier, batch_size=size, concurrency=actors)
        lines.write_json(given["output"])

    folders = sorted(entry.path for entry in os.scandir(given["images"]))
    run(folders[:1])
    yield lambda: run(folders[: given["folders"]])
    ray.shutdown()


if __name__ == "__main__":
    protocol.serve(["ray", "pandas", "pyarrow"], no_op=no_op, rows=rows, files=files)
