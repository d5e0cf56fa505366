"""Daft: data frames on its own Rust engine, in one process; Python functions run in batches."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import daft
import pandas as pd
import protocol
import two_columns

if TYPE_CHECKING:
    from collections.abc import Iterator


@daft.func.batch(return_dtype=daft.DataType.float64())
def _total(number: daft.Series, price: daft.Series, quantity: daft.Series) -> Any:
    columns = {"id": number, "price": price, "quantity": quantity}
    frame = pd.DataFrame({name: each.to_arrow().to_pandas() for name, each in columns.items()})
    return two_columns.run(frame)["total"].to_numpy()


@contextmanager
def rows(given: dict[str, Any]) -> Iterator[protocol.Round]:
    """A table through the function into part files. Its reader leaves out columns that the function does not take."""
    read = daft.read_parquet if given["table"].endswith(".parquet") else daft.read_csv

    def run(table: str) -> None:
        columns = [daft.col(name) for name in ("id", "price", "quantity")]
        read(table).select(daft.col("id"), _total(*columns).alias("total")).write_csv(given["output"])

    run(given["small"])
    yield lambda: run(given["table"])


if __name__ == "__main__":
    protocol.serve(["daft", "pandas", "pyarrow"], rows=rows)
