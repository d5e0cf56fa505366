"""Parquet: slices follow the footers; each row comes once, and neighbours share a decoded row group."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmesh.data import parquet
from batchmesh.data.reading import read_slice
from batchmesh.data.size import MiniBatchSize
from batchmesh.data.slices import Piece, UnreadableFile, UnreadableSlice, decode_slice, encode_slice


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Ten row groups of 100 rows, the last of 50; `i` counts."""
    table = pa.table({"i": range(950), "text": [f"text {index} {index * 7919}" for index in range(950)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    return str(tmp_path / "t.parquet")


def pieces(path: str, size: str) -> list[Piece]:
    return list(parquet.split(path, MiniBatchSize.parse(size, "parquet")))


def frames(found: list[Piece]) -> list[pd.DataFrame]:
    return [read_slice(decode_slice(encode_slice(piece.fields))).items for piece in found]


def test_nulls_decide_the_type_in_each_mini_batch_of_a_file_without_statistics_too(tmp_path: Path) -> None:
    table = pa.table({"i": [1, 2, None, 4], "b": [None, True, False, True], "full": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "t.parquet", write_statistics=False)
    for frame in frames(pieces(str(tmp_path / "t.parquet"), "1 rows")):
        assert [str(kind) for kind in frame.dtypes] == ["float64", "object", "int64"]


@pytest.mark.parametrize("size", ["1", "500", "1KB", "3KB", "10KB", "1MB", "1 rows", "7 rows", "100 rows", "333 rows"])
def test_every_row_comes_once_and_in_order(path: str, size: str) -> None:
    found = pieces(path, size)
    read = frames(found)
    assert [row for frame in read for row in frame["i"]] == list(range(950))
    assert [len(frame) for frame in read] == [piece.items for piece in found]
    assert all(list(frame.index) == list(range(len(frame))) for frame in read)


def test_rows_are_cut_exactly(path: str) -> None:
    assert [piece.items for piece in pieces(path, "300 rows")] == [300, 300, 300, 50]


def test_large_row_groups_are_parted_and_small_ones_joined(path: str) -> None:
    size = max(pq.read_metadata(path).row_group(group).total_byte_size for group in range(10))
    assert [piece.items for piece in pieces(path, str(size // 2 + 1))][:4] == [50, 50, 50, 50]
    assert pieces(path, str(size * 2 + 100))[0].items == 200


def test_a_row_group_little_larger_than_asked_for_is_not_parted(path: str) -> None:
    size = max(pq.read_metadata(path).row_group(group).total_byte_size for group in range(10))
    found = pieces(path, str(size * 3 // 4))
    assert [piece.items for piece in found] == [100] * 9 + [50]
    assert {piece.affinity for piece in found} == {0}


def test_a_file_with_a_thousand_row_groups_is_read_from_any_of_them(tmp_path: Path) -> None:
    pq.write_table(pa.table({"i": range(1000)}), tmp_path / "t.parquet", row_group_size=1)
    found = pieces(str(tmp_path / "t.parquet"), "7 rows")
    read = frames(found[::-1])[::-1]
    assert [row for frame in read for row in frame["i"]] == list(range(1000))


def test_slices_of_one_row_group_share_an_affinity_and_others_do_not(path: str) -> None:
    found = pieces(path, "50 rows")
    assert [piece.affinity for piece in found[::2]][:9] == [piece.affinity for piece in found[1::2]]
    assert len({piece.affinity for piece in found}) == 10
    assert all(0 < piece.affinity < 2**63 for piece in found)
    assert {piece.affinity for piece in pieces(path, "1MB")} == {0}


def test_splitting_goes_on_behind_any_slice(path: str) -> None:
    found = pieces(path, "1KB")
    for index, piece in enumerate(found):
        assert list(parquet.split(path, MiniBatchSize(1024, "bytes"), piece.after)) == found[index + 1 :]


def test_a_column_with_nulls_anywhere_has_one_dtype_everywhere(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    table = pa.table({"i": [1, 2, 3, None], "b": [True, False, None, True], "whole": [1, 2, 3, 4]})
    pq.write_table(table, path, row_group_size=2)
    for frame in frames(pieces(path, "1 rows")):
        assert frame.dtypes.astype(str).tolist() == ["float64", "object", "int64"]


def test_the_writers_index_is_a_column_and_ours_counts_from_0(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    pd.DataFrame({"a": [1, 2]}, index=pd.Index([7, 8], name="key")).to_parquet(path)
    (frame,) = frames(pieces(path, "1MB"))
    assert frame.to_dict("list") == {"a": [1, 2], "key": [7, 8]}
    assert list(frame.index) == [0, 1]


def test_a_file_without_rows_has_no_slices(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "t.parquet")
    assert pieces(str(tmp_path / "t.parquet"), "1MB") == []
    assert pieces(str(tmp_path / "t.parquet"), "5 rows") == []


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100])
def test_a_damaged_file_gets_a_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(UnreadableFile, match=r"t\.parquet cannot be read: "):
        pieces(str(tmp_path / "t.parquet"), "1MB")


def test_a_file_that_has_changed_since_is_told(path: str) -> None:
    piece = pieces(path, "1MB")[-1]
    read_slice(piece.fields)
    pq.write_table(pa.table({"i": [1]}), path)
    with pytest.raises(UnreadableSlice, match="no longer what it was"):
        read_slice(piece.fields)
    Path(path).unlink()
    with pytest.raises(UnreadableSlice, match="No such file"):
        read_slice(piece.fields)
