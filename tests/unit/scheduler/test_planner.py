"""What the mini-batches of a job are, and what is refused before there are any."""

import os
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmesh.data.listing import InputRefused
from batchmesh.data.reading import read_slice
from batchmesh.data.slices import decode_slice
from batchmesh.scheduler.planner import FileWithoutRows, Planned, PlannedMiniBatch, PlanRequest, check, plan
from batchmesh.scheduler.planning import too_large


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tables of several kinds, one of them empty, one damaged."""
    (tmp_path / "a.csv").write_text("x,y\n" + "1,a\n" * 5)
    (tmp_path / "b.csv").write_text("x,y\n")
    (tmp_path / "c.txt").write_text("text")
    (tmp_path / "d.csv").write_bytes(b"\xff\xfex\0")
    (tmp_path / "e.csv").write_text("y,x\nb,2\n")
    pq.write_table(pa.table({"x": range(10)}), tmp_path / "f.parquet")
    (tmp_path / "g.jsonl").write_text('{"x": 1}\n')
    return tmp_path


def planned(request: PlanRequest) -> list[Planned]:
    return list(plan(request))


def told(found: list[Planned]) -> list[str]:
    """One word each: the number of items, or what is wrong."""
    words = []
    for each in found:
        if isinstance(each, FileWithoutRows):
            words.append(f"{Path(each.path).name}: no rows")
        else:
            words.append(f"{Path(each.failure.item).name}: failed" if each.failure else str(each.items))
    return words


def test_files_are_grouped_within_an_input(folder: Path) -> None:
    request = PlanRequest(inputs=(str(folder), f"{folder}/*.csv"), kind="files", mini_batch_size=3)
    assert check(request) == "files"
    found = planned(request)
    assert told(found) == ["3", "3", "1", "3", "1"]
    paths = [
        path for each in found if isinstance(each, PlannedMiniBatch) for path in decode_slice(each.payload)["files"]
    ]
    assert [Path(path).name[0] for path in paths] == list("abcdefgabde")


@pytest.mark.parametrize(
    ("sizes", "items"),
    [((), "1 1 1 1 1 2 2 2 1 1"), ((5, 1, 1), "2 2 1 2 2 2 1 1"), ((2, 5), "2 2 2 2 2 2 1"), ((7,), "2 2 2 2 2 2 1")],
)
def test_inputs_that_are_counted_together_share_mini_batches_and_others_do_not(
    folder: Path, sizes: tuple[int, ...], items: str
) -> None:
    names = [f"{folder}/{name}" for name in ("a.csv", "b.csv", "c.txt", "d.csv", "e.csv")]
    inputs = (*names, str(folder), names[0])
    request = PlanRequest(inputs=inputs, kind="files", mini_batch_size=2, input_sizes=sizes)
    found = [each for each in planned(request) if isinstance(each, PlannedMiniBatch)]
    assert " ".join(told([*found])) == items
    for number, each in enumerate(found):
        rest = [left.payload for left in plan(request, each.cursor) if isinstance(left, PlannedMiniBatch)]
        assert rest == [left.payload for left in found[number + 1 :]], "it goes on behind each of them as it would have"


def test_what_is_no_table_of_the_kind_is_one_failed_item_that_never_runs(folder: Path) -> None:
    request = PlanRequest(inputs=(str(folder),), mini_batch_size="3 rows")
    assert check(request) == "csv"
    found = planned(request)
    assert told(found) == [
        "3",
        "2",
        "b.csv: no rows",
        "c.txt: failed",
        "d.csv: failed",
        "1",
        "f.parquet: failed",
        "g.jsonl: failed",
    ]
    failure = found[3].failure if isinstance(found[3], PlannedMiniBatch) else None
    assert failure is not None
    assert failure.kind == "UNREADABLE_FILE"
    assert failure.message == f"{folder}/c.txt is no csv file, as the input's other files are; leave it out"


def test_a_given_kind_reads_names_that_tell_none(folder: Path) -> None:
    request = PlanRequest(inputs=(str(folder / "c.txt"),), kind="csv", csv_header="absent")
    (each,) = planned(request)
    assert isinstance(each, PlannedMiniBatch)
    assert read_slice(decode_slice(each.payload)).items.to_dict("list") == {"Column1": ["text"]}


@pytest.mark.parametrize("size", ["1 rows", "2 rows", "1KB"])
def test_planning_goes_on_behind_any_cursor(folder: Path, size: str) -> None:
    for inputs in [(str(folder),), (f"{folder}/*.csv", f"{folder}/a.csv"), (f"{folder}/f.parquet",)]:
        request = PlanRequest(inputs=inputs, mini_batch_size=size)
        found = planned(request)
        for index, each in enumerate(found):
            assert list(plan(request, each.cursor)) == found[index + 1 :]


def test_planning_files_goes_on_behind_any_cursor(folder: Path) -> None:
    request = PlanRequest(inputs=(str(folder), str(folder / "a.csv")), kind="files", mini_batch_size=2)
    found = planned(request)
    for index, each in enumerate(found):
        assert list(plan(request, each.cursor)) == found[index + 1 :]


def test_the_first_mini_batch_comes_before_later_files_are_opened(folder: Path) -> None:
    found = plan(PlanRequest(inputs=(str(folder),), mini_batch_size="5 rows"))
    assert told(list(islice(found, 1))) == ["5"]
    (folder / "e.csv").write_text("x,y\n" + "1,a\n" * 2)
    assert told(list(found))[-3] == "2"


def test_types_given_hold_in_every_mini_batch(folder: Path) -> None:
    request = PlanRequest(inputs=(f"{folder}/a.csv",), csv_types={"x": "float64"})
    assert check(request) == "csv"
    (each,) = planned(request)
    assert isinstance(each, PlannedMiniBatch)
    assert decode_slice(each.payload)["columns"] == [["x", "float64"], ["y", "string"]]


@pytest.mark.parametrize(
    ("request_of", "sentence"),
    [
        ({"inputs": ()}, "there is no input"),
        ({"inputs": ("{}/gone",)}, "gone' does not exist"),
        ({"inputs": ("{}/*.xml",)}, "matches no file"),
        ({"inputs": ("{}/link",)}, "a link that leads nowhere"),
        ({"inputs": ("{}/a.csv", "{}/f.parquet")}, "inputs are of one kind"),
        ({"inputs": ("{}/c.txt",), "mini_batch_size": "1MB"}, "the input is files: give a number of files"),
        ({"inputs": ("{}/a.csv",), "mini_batch_size": "many"}, "is not a size"),
        ({"inputs": ("{}/a.csv",), "kind": "xml"}, "input type 'xml' is unknown"),
        ({"inputs": ("{}/a.csv",), "csv_header": "maybe"}, "csv_header is 'present' or 'absent'"),
        ({"inputs": ("{}/a.csv",), "csv_types": {"x": "number"}}, "unknown type 'number'; give one of string, int8"),
        ({"inputs": ("{}/a.csv",), "csv_types": {"z": "string"}}, "has no column 'z'; its columns are x, y"),
        ({"inputs": ("{}/f.parquet",), "csv_types": {"x": "string"}}, "leave them out"),
    ],
)
def test_wrong_input_is_refused_with_one_sentence(folder: Path, request_of: dict[str, object], sentence: str) -> None:
    (folder / "link").symlink_to(folder / "nowhere")
    inputs = request_of["inputs"]
    assert isinstance(inputs, tuple)
    fields = {**request_of, "inputs": tuple(text.format(folder) for text in inputs)}
    with pytest.raises(InputRefused, match=sentence) as caught:
        check(PlanRequest(**fields))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_names_that_are_no_utf_8_are_shown_in_a_form_that_can_be_sent(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name, data in ((b"\xff1.csv", "x\n1\n".encode("utf-16")), (b"\xff2.csv", b"x\n"), (b"\xff3.csv", b"x\n1\n")):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    bad, empty, good = planned(PlanRequest(inputs=(str(tmp_path),)))
    assert isinstance(bad, PlannedMiniBatch)
    assert bad.failure
    assert f"{tmp_path}/\\udcff1.csv cannot be read" in bad.failure.message
    assert isinstance(empty, FileWithoutRows)
    assert empty.path == f"{tmp_path}/\\udcff2.csv"
    assert isinstance(good, PlannedMiniBatch)
    assert len(read_slice(decode_slice(good.payload)).items) == 1


def test_a_table_with_more_columns_than_a_slice_can_name_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text("x,y\n1,2\n")
    (wide,) = planned(PlanRequest(inputs=(str(tmp_path),)))
    assert isinstance(wide, PlannedMiniBatch)
    assert f"{tmp_path}/wide.csv has more columns" in too_large(wide)
    assert "--input-type files" in too_large(wide)


def test_a_named_file_is_what_the_override_says_whatever_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text("a,b\n1,2\n")
    (found,) = plan(PlanRequest(inputs=(str(path),), kind="csv"))
    assert isinstance(found, PlannedMiniBatch)
    assert found.failure is None
    assert found.items == 1
