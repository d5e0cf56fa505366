"""A table that nodes look into is planned as one that the scheduler splits: same rows, lines, columns, sentences."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmesh.data import sampling
from batchmesh.data.reading import read_slice
from batchmesh.data.slices import decode_slice
from batchmesh.scheduler.planner import ByNodes, FileWithoutRows, Planned, PlannedMiniBatch, PlanRequest, plan
from tests.support.asking import Asking

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    b'1,"a\nb"\n',
    b"2,c\r\n",
    b"\n",
    b'3,"d ""e"" f"\n',
    b"4\n",
    b"\r",
    b'5,g"h\n',
    b'6,"i,\r\nj"\r\n',
    b"\r\n",
    b"7.5,k\n",
]
HOSTILE = b"x,y\r\n" + b"".join(ROWS * 40)


def planned(request: PlanRequest, slice_bytes: int, cursor: str | None = None) -> list[Planned]:
    return list(plan(request, cursor, nodes=ByNodes(Asking(), 0, slice_bytes)))


def slices(found: list[Planned]) -> list[dict[str, Any]]:
    return [decode_slice(each.payload) for each in found if isinstance(each, PlannedMiniBatch)]


def rows_of(found: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """All rows and all failures that workers read of the slices."""
    batches = [read_slice(each) for each in found]
    rows = [row for batch in batches for row in json.loads(batch.items.to_json(orient="values"))]
    return rows, [failure for batch in batches for failure in batch.failures]


@pytest.mark.parametrize("end", [b"", b"8,l", b'8,"never ends\n9,x\n'])
@pytest.mark.parametrize("slice_bytes", [1, 7, 100, 10_000])
@pytest.mark.parametrize("size", ["64", "3 rows", "1MB"])
def test_workers_read_the_same_of_a_hostile_table(tmp_path: Path, end: bytes, slice_bytes: int, size: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(HOSTILE + end)
    request = PlanRequest(inputs=(str(path),), mini_batch_size=size)
    there, here = slices(planned(request, slice_bytes)), slices(list(plan(request)))
    assert rows_of(there) == rows_of(here)
    assert there[0].keys() == here[0].keys()
    assert all(each["columns"] == here[0]["columns"] for each in there)
    assert all(one["offset"] + one["length"] == other["offset"] for one, other in pairwise(there))
    if size == "3 rows":
        assert there == here
    if size == "64":
        assert max(each["length"] for each in there if "unterminated" not in each) < 2 * 64


def test_the_columns_are_those_of_the_same_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LIMIT", 64 * 64)
    path = tmp_path / "table.csv"
    path.write_bytes(b"x,y\n" + b'1,"a\n1,b"\n' * 3000 + b'1.5,"c"\n' * 100)
    request = PlanRequest(inputs=(str(path),), csv_types={"y": "string"})
    there, here = slices(planned(request, 5000)), slices(list(plan(request)))
    assert there[0]["columns"] == here[0]["columns"] == [["x", "float64"], ["y", "string"]]


@pytest.mark.parametrize("size", ["64", "3 rows"])
def test_lines_of_json_are_planned_in_parts_as_well(tmp_path: Path, size: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"x": 1, "y": "a\\nb"}\n\n  \r\n{"x": 2}\r\nnone\n' * 40 + b'{"x": 3}')
    request = PlanRequest(inputs=(str(path),), mini_batch_size=size)
    for slice_bytes in (1, 50, 10_000):
        there, here = slices(planned(request, slice_bytes)), slices(list(plan(request)))
        assert rows_of(there) == rows_of(here)
        assert size == "64" or there == here


@pytest.mark.parametrize(("name", "end"), [("t.csv.gz", b""), ("t.csv", b'8,"never ends'), ("t.jsonl.gz", b"")])
def test_a_zipped_table_is_one_slice_as_ever(tmp_path: Path, name: str, end: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress((b'{"x": 1}\n' * 99 if "jsonl" in name else HOSTILE) + end))
    request = PlanRequest(inputs=(str(path),), mini_batch_size="64")
    asking = Asking()
    found = slices(list(plan(request, nodes=ByNodes(asking, 0, 50))))
    assert found == slices(list(plan(request)))
    assert len(asking.asked) == 2


@pytest.mark.parametrize("size", ["512", "7 rows"])
def test_a_parquet_file_is_planned_by_its_footer(tmp_path: Path, size: str) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"x": [None if number % 9 == 5 else number for number in range(1000)]})
    pq.write_table(table, path, row_group_size=90)
    request = PlanRequest(inputs=(str(path),), mini_batch_size=size)
    asking = Asking()
    found = list(plan(request, nodes=ByNodes(asking, 0, 50)))
    assert [each[:3] for each in found] == [each[:3] for each in plan(request)]  # type: ignore[index]
    assert len(asking.asked) == 1


@pytest.mark.parametrize("size", ["64", "5 rows"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.parquet"])
def test_planning_goes_on_behind_any_cursor_also_where_slices_are_longer_then(
    tmp_path: Path, name: str, size: str
) -> None:
    path = tmp_path / name
    if name == "t.parquet":
        pq.write_table(pa.table({"x": range(100)}), path, row_group_size=30)
    else:
        data = b'{"x": 1}\n\n' * 50 if "jsonl" in name else HOSTILE + b'"never ends'
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    request = PlanRequest(inputs=(str(path),), mini_batch_size=size)
    found = planned(request, 100)
    for index, each in enumerate(found):
        assert planned(request, 333, each.cursor) == found[index + 1 :]


def test_a_plan_that_the_scheduler_has_begun_is_gone_on_with_by_nodes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(HOSTILE)
    request = PlanRequest(inputs=(str(path),), mini_batch_size="64")
    begun = list(plan(request))[:9]
    rest = planned(request, 100, begun[-1].cursor)
    assert rows_of(slices([*begun, *rest])) == rows_of(slices(list(plan(request))))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "it is UTF-16; convert it to UTF-8"),
        (b"\xff,b\n1,2\n", "its header is not UTF-8"),
        (b'"a,b\n1,2\n', "begins in its first record and never ends"),
        (b"\x1f\x8bgarbage", "cannot be read"),
    ],
)
def test_a_damaged_table_is_a_failed_item_with_the_same_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    request = PlanRequest(inputs=(str(path),))
    (there,), (here,) = planned(request, 100), plan(request)
    assert there == here
    assert isinstance(there, PlannedMiniBatch)
    assert there.failure is not None
    assert sentence in there.failure.message


@pytest.mark.parametrize("data", [b"", b"\n\n", b"a,b\r\n\r\n"])
def test_a_table_without_rows_has_none_there_either(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    (found,) = plan(PlanRequest(inputs=(str(path),)), nodes=ByNodes(Asking(), -1, 100))
    assert isinstance(found, FileWithoutRows)


def test_a_table_that_changes_while_it_is_planned_is_a_failed_item(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(HOSTILE)
    request = PlanRequest(inputs=(str(path),), mini_batch_size="64")
    found = plan(request, nodes=ByNodes(Asking(), 0, 10))
    next(found)
    path.write_bytes(HOSTILE * 2)
    *_, last = found
    assert isinstance(last, PlannedMiniBatch)
    assert last.failure is not None
    assert "is no longer what it was when the job was planned" in last.failure.message


def test_small_tables_of_this_host_are_split_here(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HOSTILE)
    (tmp_path / "b.csv").write_bytes(HOSTILE + b"1,2\n")
    asking = Asking()
    found = list(plan(PlanRequest(inputs=(str(tmp_path),)), nodes=ByNodes(asking, len(HOSTILE), 10_000)))
    assert len(found) == 2
    assert {request.file for request in asking.asked} == {bytes(tmp_path / "b.csv")}


def test_what_is_planned_is_told_before_an_answer_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(HOSTILE)
    asking, known, told = Asking(), [0], []
    nodes = ByNodes(asking, 0, 200, lambda: told.append(known[0]))
    for _ in plan(PlanRequest(inputs=(str(path),), mini_batch_size="64"), nodes=nodes):
        known[0] += 1
    assert len(told) == len(asking.asked), "for the look, the columns and each plan slice"
    assert told[-1] > known[0] / 2
