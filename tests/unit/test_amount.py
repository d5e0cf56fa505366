"""Amounts of bytes in options."""

from __future__ import annotations

import argparse

import pytest

from batchmesh.amount import in_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", 0), ("17", 17), ("1KB", 1024), ("500mb", 500 * 2**20), ("64GB", 64 * 2**30), (" 2TB ", 2 * 2**40)],
)
def test_an_amount_is_a_number_with_or_without_a_unit(text: str, amount: int) -> None:
    assert in_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "GB", "1.5GB", "-1", "2 GB", "1GiB", "٣"])
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="2GB"):
        in_bytes(text)
