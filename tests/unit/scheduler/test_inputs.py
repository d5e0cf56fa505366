"""Inputs in datastores: planned as if they lay here, restarted behind the cursor, and refused by name."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmesh.data.listing import InputRefused
from batchmesh.data.reading import read_slice
from batchmesh.data.slices import decode_slice
from batchmesh.datastores.local import LocalDatastore
from batchmesh.entries import LocalFolder
from batchmesh.errors import BatchmeshError, DatastoreFailed, NoEntry
from batchmesh.scheduler.inputs import Inputs
from batchmesh.scheduler.planner import ByNodes, FileWithoutRows, Planned, PlannedMiniBatch, PlanRequest, check, plan
from tests.support.asking import Asking
from tests.support.memory_datastore import MemoryDatastore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh.datastores.store import Datastore
    from batchmesh.scheduler.inputs import Remote

CSV = "x,y\n" + "".join(f"{number},{'abc'[number % 3]}\n" for number in range(5))


@pytest.fixture
def blobs() -> MemoryDatastore:
    """Files of several kinds."""
    store = MemoryDatastore()
    for number in range(7):
        store.put(f"images/{number}.png", f"{number}")
    parquet = io.BytesIO()
    pq.write_table(pa.table({"x": range(10)}), parquet)
    store.put("tables/a.csv", CSV)
    store.put("tables/b.csv", "x,y\n")
    store.put("tables/c.txt", "text")
    store.put("tables/d.csv.gz", gzip.compress(CSV.encode()))
    store.put("rows/a.parquet", parquet.getvalue())
    store.put("lines/a.jsonl", '{"x": 1}\n{"x": 2}\n')
    return store


@pytest.fixture
def remote(tmp_path: Path, blobs: MemoryDatastore) -> Remote:
    """`blobs`, and `here`, a folder of this host with a table in it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/e.csv").write_text(CSV)
    here = LocalDatastore("here", LocalFolder(str(tmp_path / "folder")))

    def opened(name: str) -> Datastore:
        if name not in ("blobs", "here"):
            raise NoEntry(f"There is no datastore {name!r}.")
        return blobs if name == "blobs" else here

    return opened


def planned(request: PlanRequest, remote: Remote, blobs: Datastore, cursor: str | None = None) -> Iterator[Planned]:
    """With nodes that look into tables 7 bytes at a time."""
    return plan(request, cursor, remote, nodes=ByNodes(Asking(blobs), 2**20, 7))


def slices(found: list[Planned]) -> list[dict[str, Any]]:
    return [decode_slice(each.payload) for each in found if isinstance(each, PlannedMiniBatch)]


def failures(found: list[Planned]) -> dict[str, str]:
    return {
        each.failure.item: each.failure.message for each in found if isinstance(each, PlannedMiniBatch) and each.failure
    }


def test_files_are_named_by_their_references(remote: Remote) -> None:
    request = PlanRequest(inputs=("datastore://blobs/images",), mini_batch_size=3)
    assert check(request, remote) == "files"
    names = [each["files"] for each in slices(list(plan(request, None, remote)))]
    assert names == [
        [f"datastore://blobs/images/{number}.png" for number in group] for group in ([0, 1, 2], [3, 4, 5], [6])
    ]


def test_a_table_is_looked_into_by_nodes_and_named_by_reference_size_and_stamp(
    remote: Remote, blobs: MemoryDatastore
) -> None:
    request = PlanRequest(inputs=("datastore://blobs/tables/a.csv",), mini_batch_size="2 rows")
    assert check(request, remote) == "csv"
    found = slices(list(planned(request, remote, blobs)))
    assert [each["rows"] for each in found] == [2, 2, 1]
    (there,) = blobs.find("tables/a.csv")
    for each in found:
        assert (each["file"], each["size"], each["stamp"]) == ("datastore://blobs/tables/a.csv", len(CSV), there.stamp)
    assert blobs.downloads == [], "not one of them is fetched whole"


@pytest.mark.parametrize("path", ["rows", "rows/*.parquet", "lines/a.jsonl", "tables/d.csv.gz"])
def test_the_kind_is_told_by_the_first_file(remote: Remote, blobs: MemoryDatastore, path: str, tmp_path: Path) -> None:
    request = PlanRequest(inputs=(f"datastore://blobs/{path}",), mini_batch_size="4 rows")
    kind = check(request, remote)
    found = slices(list(planned(request, remote, blobs)))
    assert {each["kind"] for each in found} == {kind}
    blobs.download(found[0]["file"].removeprefix("datastore://blobs/"), tmp_path / "fetched")
    assert len(read_slice({**found[0], "file": str(tmp_path / "fetched")}).items) == found[0]["rows"]


def test_local_and_remote_inputs_of_one_kind_stand_side_by_side(
    remote: Remote, blobs: MemoryDatastore, tmp_path: Path
) -> None:
    inputs = ("datastore://blobs/tables/a.csv", "datastore://here/", f"{tmp_path}/folder/*.csv")
    request = PlanRequest(inputs=inputs, mini_batch_size="100 rows")
    assert check(request, remote) == "csv"
    found = slices(list(planned(request, remote, blobs)))
    here = f"{tmp_path}/folder/e.csv"
    assert [each["file"] for each in found] == ["datastore://blobs/tables/a.csv", here, here]
    assert ["stamp" in each for each in found] == [True, False, False]


@pytest.mark.parametrize("inputs", [("images", "images/*.png"), ("tables",), ("rows", "rows")])
def test_planning_goes_on_behind_any_cursor(remote: Remote, blobs: MemoryDatastore, inputs: tuple[str, ...]) -> None:
    size = 2 if "images" in inputs else "2 rows"
    request = PlanRequest(inputs=tuple(f"datastore://blobs/{each}" for each in inputs), mini_batch_size=size)
    found = list(planned(request, remote, blobs))
    for index, each in enumerate(found):
        assert list(planned(request, remote, blobs, each.cursor)) == found[index + 1 :]


def test_what_cannot_be_split_is_a_failed_item_that_names_the_reference(remote: Remote, blobs: MemoryDatastore) -> None:
    blobs.put("tables/e.csv", b"\xff\xfex\0")
    found = list(planned(PlanRequest(inputs=("datastore://blobs/tables",), mini_batch_size="9 rows"), remote, blobs))
    assert failures(found) == {
        "datastore://blobs/tables/c.txt": "datastore://blobs/tables/c.txt is no csv file, as the input's other files "
        "are; leave it out",
        "datastore://blobs/tables/e.csv": "datastore://blobs/tables/e.csv cannot be read: it is UTF-16; convert it to "
        "UTF-8",
    }
    assert [each.path for each in found if isinstance(each, FileWithoutRows)] == ["datastore://blobs/tables/b.csv"]


def test_a_blob_that_goes_while_the_job_is_planned_fails_by_name(remote: Remote, blobs: MemoryDatastore) -> None:
    found = planned(PlanRequest(inputs=("datastore://blobs/tables",), mini_batch_size="9 rows"), remote, blobs)
    first = next(found)
    blobs.delete("tables/d.csv.gz")
    gone = "datastore://blobs/tables/d.csv.gz"
    assert failures([first, *found])[gone] == f"{gone} cannot be read (there is none); check the path."


def test_a_datastore_that_fails_ends_planning_and_no_file_of_it_is_bad() -> None:
    class Failing(MemoryDatastore):
        def open(self, path: str) -> BinaryIO:
            raise DatastoreFailed(f"The datastore {self.name} does not answer.")

    blobs = Failing()
    blobs.put("a.csv", CSV)
    found = planned(PlanRequest(inputs=("datastore://blobs/",)), lambda _: blobs, blobs)
    with pytest.raises(DatastoreFailed, match="does not answer"):
        next(found)


def test_a_blob_that_changes_between_two_lives_of_the_scheduler_fails_by_name(
    remote: Remote, blobs: MemoryDatastore
) -> None:
    request = PlanRequest(inputs=("datastore://blobs/tables/a.csv",), mini_batch_size="2 rows")
    found = planned(request, remote, blobs)
    cursor = next(found).cursor
    blobs.put("tables/a.csv", "x,y\n9,z\n" * 3)
    (failed,) = failures(list(planned(request, remote, blobs, cursor))).values()
    assert failed == (
        "datastore://blobs/tables/a.csv cannot be read: it is no longer what it was when the job was planned; "
        "submit the job again"
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"inputs": ("datastore://gone/x",)}, "There is no datastore 'gone'"),
        ({"inputs": ("datastore://blobs/gone.csv",)}, "datastore://blobs/gone.csv: there is nothing"),
        ({"inputs": ("datastore://here/gone.csv",)}, "does not exist"),
        ({"inputs": ("datastore://blobs/images", "datastore://blobs/rows")}, "inputs are of one kind"),
        ({"inputs": ("datastore://blobs/images",), "mini_batch_size": "3 rows"}, "give a number of files"),
        (
            {"inputs": ("datastore://blobs/tables/a.csv",), "csv_types": {"z": "string"}},
            "'datastore://blobs/tables/a.csv' has no column 'z'; its columns are x, y",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(remote: Remote, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises((InputRefused, BatchmeshError), match="(?s)" + sentence.replace("?", "\\?")):
        check(PlanRequest(**fields), remote)


def test_without_datastores_a_reference_is_refused() -> None:
    with pytest.raises(InputRefused, match="lies in a datastore, and there is none here"):
        check(PlanRequest(inputs=("datastore://blobs/a",)))


def test_the_listing_tells_sizes_and_stamps_of_all_files(remote: Remote, tmp_path: Path) -> None:
    inputs = Inputs(("datastore://blobs/images", "datastore://here/"), remote)
    assert next(inputs.stamped(0)) == ("datastore://blobs/images/0.png", 1, "1")
    assert list(inputs.stamped(1))[-1][:2] == (f"{tmp_path}/folder/e.csv", len(CSV))
