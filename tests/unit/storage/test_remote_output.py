"""An output in a remote datastore: made aside, uploaded, its file last; and what a kill between two steps leaves."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from batchmesh.errors import (
    DatastoreFailed,
    NoEntry,
    NoOutput,
    OutputChanged,
    OutputNotEmpty,
    OutputReserved,
    OutputUnwritable,
    SpecRefused,
)
from tests.support.outputs import Killed, OutputRig

if TYPE_CHECKING:
    from pathlib import Path

OUTPUT = "datastore://blobs/results"
REPORT = ["results/job_report/processed_mini-batches.csv", "results/job_report/summary.json"]


@pytest.fixture
def rig(tmp_path: Path) -> OutputRig:
    return OutputRig(tmp_path / "root")


def test_the_file_and_the_report_lie_below_the_reference_and_nothing_is_left_aside(rig: OutputRig) -> None:
    rig.reserve(OUTPUT)
    assert rig.blobs.all() == {}
    manifest = rig.commit(OUTPUT, "a", "b")
    assert (manifest.output_path, manifest.report_path) == (f"{OUTPUT}/out.txt", f"{OUTPUT}/job_report")
    assert (manifest.rows, manifest.bytes) == (2, 4)
    assert sorted(rig.blobs.all()) == [*REPORT, "results/out.txt"]
    assert json.loads(rig.blobs.all()[REPORT[1]])["output_rows"] == 2
    assert rig.content() == "a\nb\n"
    assert rig.commit(OUTPUT, "a", "b") == manifest
    assert sorted(os.listdir(rig.places.job("j"))) == ["commit", "manifest.json", "segments"]


def test_the_file_comes_last(rig: OutputRig) -> None:
    uploads: list[str] = []
    rig.reserve(OUTPUT)
    rig.blobs.before = lambda what, path: uploads.append(path)
    rig.commit(OUTPUT, "a")
    assert uploads == [*REPORT, "results/out.txt"]


@pytest.mark.parametrize("path", ["", "/", "results", "results/", "a/b/c"])
def test_every_spelling_of_a_folder_is_one_folder(rig: OutputRig, path: str) -> None:
    output = f"datastore://blobs/{path.strip('/')}"
    rig.reserve(output)
    if path.strip("/"):
        with pytest.raises(OutputReserved, match="job j"):
            rig.reserve(f"datastore://blobs/{path}", job="k")
    assert rig.commit(output, "a").output_path == f"{output.removesuffix('/')}/out.txt"


def test_a_reservation_survives_and_is_given_back(rig: OutputRig) -> None:
    rig.reserve(OUTPUT)
    again = rig.again()
    with pytest.raises(OutputReserved):
        again.reserve(OUTPUT, job="k")
    again.reserve(OUTPUT)
    again.reservations.release("j")
    assert not again.places.staging("j").exists()
    again.reserve(OUTPUT, job="k")


@pytest.mark.parametrize("overwriting", [OUTPUT, f"{OUTPUT}/inside"])
def test_a_folder_in_one_that_is_overwritten_is_not_given_away(rig: OutputRig, overwriting: str) -> None:
    jobs = {OUTPUT: "j", f"{OUTPUT}/inside": "k"}
    rig.reserve(OUTPUT, overwrite=overwriting == OUTPUT)
    with pytest.raises(OutputReserved, match="lies in, or around") if overwriting == OUTPUT else nullcontext():
        rig.reserve(f"{OUTPUT}/inside", job="k", overwrite=overwriting != OUTPUT)
    rig.reservations.release(jobs[OUTPUT])
    rig.reserve(f"{OUTPUT}/inside", job="k")
    with pytest.raises(OutputReserved):
        rig.reserve(OUTPUT, job="l", overwrite=True)
    rig.reserve(f"{OUTPUT}-not", job="m", overwrite=True)


def test_the_same_reference_in_another_workspace_is_another_folder(rig: OutputRig) -> None:
    rig.reserve(OUTPUT, workspace="one")
    rig.reserve(OUTPUT, job="k", workspace="two")


def test_a_folder_with_blobs_is_taken_with_overwrite_alone(rig: OutputRig) -> None:
    rig.blobs.put("results/old", "old")
    rig.blobs.put("results-not", "another folder")
    with pytest.raises(OutputNotEmpty, match=r"datastore://blobs/results .*it holds old.*--overwrite"):
        rig.reserve(OUTPUT)
    rig.reserve(OUTPUT, overwrite=True)
    rig.commit(OUTPUT, "a")
    assert sorted(rig.blobs.all()) == ["results-not", *REPORT, "results/out.txt"]


def test_old_blobs_are_deleted_once_the_new_ones_are_there(rig: OutputRig) -> None:
    steps: list[tuple[str, str]] = []
    rig.blobs.put("results/old", "old")
    rig.blobs.put("results/out.txt", "old")
    rig.reserve(OUTPUT, overwrite=True)
    rig.blobs.before = lambda what, path: steps.append((what, path))
    rig.commit(OUTPUT, "a")
    assert steps[-2:] == [("upload", "results/out.txt"), ("delete", "results/old")]
    assert rig.content() == "a\n"


def test_of_a_whole_datastore_nothing_is_deleted_but_the_report_of_before(rig: OutputRig) -> None:
    rig.blobs.put("theirs", "theirs")
    rig.blobs.put("job_report/failed_items.jsonl", "{}")
    rig.reserve("datastore://blobs/", overwrite=True)
    rig.commit("datastore://blobs/", "a")
    assert sorted(rig.blobs.all()) == [
        "job_report/processed_mini-batches.csv", "job_report/summary.json", "out.txt", "theirs",
    ]  # fmt: skip


def test_a_failed_job_leaves_its_report_and_what_was_there_before(rig: OutputRig) -> None:
    rig.blobs.put("results/old", "old")
    rig.reserve(OUTPUT, overwrite=True)
    manifest = rig.commit(OUTPUT, "a", report_only=True)
    assert manifest.output_path == ""
    assert sorted(rig.blobs.all()) == [*REPORT, "results/old"]
    with pytest.raises(NoOutput):
        rig.content()


def test_the_report_of_a_failed_job_alone_is_as_good_as_empty(rig: OutputRig) -> None:
    rig.reserve(OUTPUT)
    rig.commit(OUTPUT, report_only=True)
    rig.reserve(OUTPUT, job="k")
    rig.commit(OUTPUT, "a", job="k")
    with pytest.raises(OutputNotEmpty):
        rig.reserve(OUTPUT, job="l")


def test_a_job_that_goes_on_replaces_its_own_file_and_nobody_elses(rig: OutputRig) -> None:
    rig.reserve(OUTPUT)
    rig.commit(OUTPUT, "a")
    rig.reserve(OUTPUT, resumed=True)
    rig.commit(OUTPUT, "a", digest="2-report", report_only=True)
    assert rig.blobs.all()["results/out.txt"] == b"a\n"
    rig.reserve(OUTPUT, resumed=True)
    rig.commit(OUTPUT, "a", "b", digest="3")
    assert rig.content() == "a\nb\n"
    rig.blobs.put("results/out.txt", "somebody's")
    with pytest.raises(OutputNotEmpty, match=r"out\.txt"):
        rig.reserve(OUTPUT, resumed=True)


def test_what_appears_at_its_name_meanwhile_is_not_replaced(rig: OutputRig) -> None:
    rig.reserve(OUTPUT)
    rig.blobs.put("results/out.txt", "somebody's")
    with pytest.raises(OutputChanged, match=r"datastore://blobs/results/out\.txt"):
        rig.commit(OUTPUT, "a")
    assert rig.blobs.all() == {"results/out.txt": b"somebody's"}


@pytest.mark.parametrize("output", ["datastore://blobs/a*", "datastore://blobs/file"])
def test_a_pattern_or_a_file_is_no_folder(rig: OutputRig, output: str) -> None:
    rig.blobs.put("file", "x")
    with pytest.raises(OutputUnwritable, match="give a folder"):
        rig.reserve(output)


def test_a_datastore_that_cannot_be_written_is_told_at_submission(rig: OutputRig) -> None:
    def refuse(what: str, path: str) -> None:
        raise DatastoreFailed("The datastore does not answer.")

    rig.blobs.before = refuse
    with pytest.raises(OutputUnwritable, match=r"^The output datastore://blobs/results cannot be written: The datast"):
        rig.reserve(OUTPUT)
    with pytest.raises(NoEntry):
        rig.reserve("datastore://unknown/x")
    with pytest.raises(SpecRefused):
        rig.reserve("datastore://blobs/../x")
    assert not rig.reservations.has("j")
    assert os.listdir(rig.places.jobs) == os.listdir(rig.places.trash) == []


def test_a_datastore_that_is_away_at_the_commit_goes_on_where_it_was(rig: OutputRig) -> None:
    rig.reserve(OUTPUT, file_name="")
    for number in range(5):
        rig.send(f"deep/{number}", f"{number}")
    uploads: list[str] = []

    def away_after_three(what: str, path: str) -> None:
        if len(uploads) == 3:
            raise DatastoreFailed("It does not answer.")
        uploads.append(path)

    rig.blobs.before = away_after_three
    with pytest.raises(DatastoreFailed):
        rig.commit(OUTPUT, summary_only=True)
    rig.blobs.before = lambda what, path: uploads.append(path)
    rig.commit(OUTPUT, summary_only=True)
    assert uploads == [f"results/deep/{number}" for number in range(5)] + REPORT


def test_a_local_datastore_is_its_folder(rig: OutputRig, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    rig.here.symlink_to(tmp_path / "real")
    rig.reserve("datastore://here/a/b")
    with pytest.raises(OutputReserved):
        rig.reserve(rig.here / "a" / "b", job="k")
    manifest = rig.commit("datastore://here/a/b", "x")
    assert manifest.output_path == str(tmp_path / "real" / "a" / "b" / "out.txt")
    assert rig.content() == "x\n"
    with pytest.raises(OutputNotEmpty):
        rig.reserve("datastore://here/a/b", job="k")


@pytest.mark.parametrize("summary_only", [False, True])
@pytest.mark.parametrize("at", range(8))
def test_a_kill_between_any_two_steps_of_the_upload_is_healed_by_the_same_commit(
    rig: OutputRig, at: int, summary_only: bool
) -> None:
    for old in ("old", "other/old"):
        rig.blobs.put(f"results/{old}", "old")
    rig.reserve(OUTPUT, file_name="" if summary_only else "out.txt", overwrite=True)
    if summary_only:
        rig.send("a", "of a")
        rig.send("b/c", "of c")
    made = {"a": b"of a", "b/c": b"of c"} if summary_only else {"out.txt": b"1\n2\n"}
    again = killed(rig, at, summary_only)
    seen = again.blobs.all()
    assert all(seen.get(f"results/{name}", content) == content for name, content in made.items()), "half of it is seen"
    manifest = again.commit(OUTPUT, "1", "2", summary_only=summary_only)
    assert set(again.blobs.all()) == {*REPORT, *(f"results/{name}" for name in made)}
    assert all(again.blobs.all()[f"results/{name}"] == content for name, content in made.items())
    assert again.commit(OUTPUT, "1", "2", summary_only=summary_only) == manifest
    assert not again.reservations.has("j")
    assert sorted(os.listdir(again.places.job("j"))) == ["commit", "manifest.json", "segments"]


def killed(rig: OutputRig, at: int, summary_only: bool) -> OutputRig:
    """A storage that is started again after one that was killed before so many changes of the datastore."""
    left = at

    def kill(what: str, path: str) -> None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1

    rig.blobs.before = kill
    with pytest.raises(Killed) if at < 5 + summary_only else nullcontext():
        rig.commit(OUTPUT, "1", "2", summary_only=summary_only)
    rig.blobs.before = lambda what, path: None
    return rig.again()
