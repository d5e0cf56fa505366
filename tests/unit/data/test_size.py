"""How large a mini-batch is, told from what users write."""

import pytest

from batchmesh.data.size import MiniBatchSize, check_syntax


@pytest.mark.parametrize(
    ("text", "kind", "amount", "unit"),
    [
        (None, "files", 10, "files"),
        (None, "csv", 1024 * 1024, "bytes"),
        (7, "files", 7, "files"),
        ("7", "files", 7, "files"),
        ("7", "parquet", 7, "bytes"),
        ("3kb", "csv", 3 * 1024, "bytes"),
        ("3MB", "jsonl", 3 * 1024**2, "bytes"),
        ("2Gb", "csv", 2 * 1024**3, "bytes"),
        ("1000 rows", "csv", 1000, "rows"),
        ("1 row", "parquet", 1, "rows"),
    ],
)
def test_a_size_is_files_or_bytes_or_rows(text: str | int | None, kind: str, amount: int, unit: str) -> None:
    assert MiniBatchSize.parse(text, kind) == MiniBatchSize(amount, unit)


@pytest.mark.parametrize("text", ["", "ten", "1.5MB", "-1", "1 MB", "MB", "5 files", "1e3", "\u0661"])
def test_what_no_input_could_mean_is_refused_before_the_kind_is_known(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size: write"):
        check_syntax(text)


@pytest.mark.parametrize("text", [0, "0", "0KB", "0 rows"])
def test_zero_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="is zero"):
        MiniBatchSize.parse(text, "csv" if text != 0 else "files")


@pytest.mark.parametrize("text", ["1MB", "100 rows"])
def test_bytes_and_rows_are_refused_for_files(text: str) -> None:
    with pytest.raises(ValueError, match="the input is files: give a number of files"):
        MiniBatchSize.parse(text, "files")
