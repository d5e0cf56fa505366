"""Spark: one JVM on this machine and a Python worker for each slot."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import given as inputs
import no_op as no_op_script
import protocol
import two_columns
from pyspark.sql import SparkSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd


@contextmanager
def _session(given: dict[str, Any]) -> Iterator[SparkSession]:
    builder = SparkSession.builder.master(f"local[{given['workers']}]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.memory", "2g").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    try:
        yield session
    finally:
        session.stop()


@contextmanager
def no_op(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """A task for each mini-batch."""
    mini_batches = inputs.mini_batches(given["folder"], given["mini_batches"])
    with _session(given) as session:

        def run(every: list[list[str]]) -> list[str]:
            tasks = session.sparkContext.parallelize(every, len(every))
            return [name for names in tasks.map(no_op_script.run).collect() for name in names]

        run(mini_batches[:20])
        yield lambda: run(mini_batches)


def _run(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    return map(two_columns.run, frames)


@contextmanager
def rows(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """A table through the function into part files."""
    with _session(given) as session:
        # Spark infers types with a pass of its own over the text; it is told them, as it would be by a careful user.
        schema = given["spark_schema"]

        def run(table: str) -> None:
            read = session.read.parquet(table) if table.endswith(".parquet") else _csv(session, table, schema)
            read.mapInPandas(_run, "id long, total double").write.csv(given["output"], header=True, mode="overwrite")

        run(given["small"])
        yield lambda: run(given["table"])


def _csv(session: SparkSession, table: str, schema: str) -> Any:
    return session.read.csv(table, header=True, schema=schema)


if __name__ == "__main__":
    protocol.serve(["pyspark", "pandas", "pyarrow"], no_op=no_op, rows=rows)
