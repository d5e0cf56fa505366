"""What one job has published becomes another one's output, from anywhere to anywhere, as long as it is unchanged."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from batchmesh.errors import DatastoreFailed, NoOutput, OutputChanged
from batchmesh.storage import tree
from tests.support.outputs import Killed, OutputRig

if TYPE_CHECKING:
    from pathlib import Path

REMOTE = "datastore://blobs/results"
AGAIN = "datastore://blobs/again"


@pytest.fixture
def rig(tmp_path: Path) -> OutputRig:
    return OutputRig(tmp_path / "root")


def published(rig: OutputRig, output: object) -> None:
    rig.reserve(output)
    rig.commit(output, "a", "b")


def published_files(rig: OutputRig, output: object) -> None:
    """As a script has written them; one lies where a name has to be made."""
    rig.reserve(output, file_name="")
    rig.send("a", "of a")
    rig.send("deep/b", "of b")
    rig.commit(output, summary_only=True)


@pytest.mark.parametrize("source", ["{tmp}/first", "datastore://here/first", REMOTE])
@pytest.mark.parametrize("target", ["{tmp}/second", "datastore://here/second", AGAIN])
def test_a_file_is_taken_from_anywhere_to_anywhere(rig: OutputRig, tmp_path: Path, source: str, target: str) -> None:
    source, target = source.format(tmp=tmp_path), target.format(tmp=tmp_path)
    published(rig, source)
    rig.reserve(target, job="k")
    manifest = rig.copy(target, "j")
    assert (manifest.rows, manifest.bytes) == (2, 4)
    assert rig.content("k") == rig.content("j") == "a\nb\n"
    assert manifest.output_path.endswith("/out.txt")
    assert rig.copy(target, "j") == manifest
    assert not rig.reservations.has("k")


@pytest.mark.parametrize("source", ["{tmp}/first", REMOTE])
@pytest.mark.parametrize("target", ["{tmp}/second", AGAIN])
def test_so_are_the_files_of_a_script(rig: OutputRig, tmp_path: Path, source: str, target: str) -> None:
    source, target = source.format(tmp=tmp_path), target.format(tmp=tmp_path)
    published_files(rig, source)
    rig.reserve(target, job="k", file_name="")
    assert rig.copy(target, "j", summary_only=True).output_path == target
    names = {"a": b"of a", "deep/b": b"of b"}
    if target == AGAIN:
        found = {path.removeprefix("again/"): data for path, data in rig.blobs.all().items() if path[:6] == "again/"}
    else:
        found = {name: (tmp_path / "second" / name).read_bytes() for name in tree.files_below(tmp_path / "second")}
    assert {name: data for name, data in found.items() if not name.startswith("job_report/")} == names
    assert not [name for name in found if name.startswith(".")]


def test_the_report_says_whose_the_output_is(rig: OutputRig, tmp_path: Path) -> None:
    published(rig, tmp_path / "first")
    rig.reserve(tmp_path / "second", job="k")
    rig.copy(tmp_path / "second", "j")
    report = tmp_path / "second" / "job_report"
    summary = json.loads((report / "summary.json").read_text())
    assert summary == {
        "job_id": "k", "state": "SUCCEEDED", "batchmesh_version": "1", "output_rows": 2, "output_bytes": 4,
        "reused_from": "j",
    }  # fmt: skip
    assert (report / "processed_mini-batches.csv").read_text().startswith("id,tries,process")
    assert sorted(os.listdir(report)) == ["processed_mini-batches.csv", "summary.json"]


def test_a_copy_may_be_copied(rig: OutputRig, tmp_path: Path) -> None:
    published(rig, tmp_path / "first")
    for job, output, from_job in (("k", AGAIN, "j"), ("l", tmp_path / "third", "k")):
        rig.reserve(output, job=job)
        rig.copy(output, from_job, job=job)
    assert (tmp_path / "third" / "out.txt").read_text() == "a\nb\n"


@pytest.mark.parametrize("change", ["edited", "replaced", "gone"])
def test_a_file_that_has_changed_is_not_taken(rig: OutputRig, tmp_path: Path, change: str) -> None:
    published(rig, tmp_path / "first")
    published_remotely = OutputRig(tmp_path / "other", rig.blobs)
    published(published_remotely, REMOTE)
    path = tmp_path / "first" / "out.txt"
    if change != "edited":
        path.unlink()
        rig.blobs.delete("results/out.txt")
    if change != "gone":
        path.write_text("b\na\n")
        rig.blobs.put("results/out.txt", "b\na\n")
    for each in (rig, published_remotely):
        each.reserve(tmp_path / "second", job="k")
        with pytest.raises(NoOutput, match="has gone, or changed"):
            each.copy(tmp_path / "second", "j")
        assert os.listdir(tmp_path / "second") == []
        each.reservations.release("k")


@pytest.mark.parametrize("change", ["edited", "more", "fewer", "gone"])
def test_files_of_a_script_that_have_changed_are_not_taken(rig: OutputRig, tmp_path: Path, change: str) -> None:
    first = tmp_path / "first"
    published_files(rig, first)
    if change == "edited":
        (first / "deep" / "b").write_text("Of b")
    elif change == "more":
        (first / "c").write_text("c")
    elif change == "fewer":
        (first / "a").unlink()
    else:
        first.rename(tmp_path / "moved")
    rig.reserve(tmp_path / "second", job="k", file_name="")
    with pytest.raises(NoOutput):
        rig.copy(tmp_path / "second", "j", summary_only=True)
    assert os.listdir(tmp_path / "second") == [".batchmesh-k-marker"]


def test_an_output_of_another_kind_or_a_job_without_one_is_not_taken(rig: OutputRig, tmp_path: Path) -> None:
    published(rig, tmp_path / "first")
    rig.reserve(tmp_path / "failed", job="f")
    rig.commit(tmp_path / "failed", job="f", report_only=True)
    rig.reserve(tmp_path / "second", job="k")
    with pytest.raises(NoOutput, match="another kind or name"):
        rig.copy(tmp_path / "second", "j", summary_only=True)
    for job in ("f", "none"):
        with pytest.raises(NoOutput, match="published no output"):
            rig.copy(tmp_path / "second", job)


def test_what_has_appeared_at_its_name_is_not_replaced(rig: OutputRig, tmp_path: Path) -> None:
    published(rig, tmp_path / "first")
    rig.reserve(tmp_path / "second", job="k")
    (tmp_path / "second" / "out.txt").write_text("theirs")
    with pytest.raises(OutputChanged):
        rig.copy(tmp_path / "second", "j")
    assert (tmp_path / "second" / "out.txt").read_text() == "theirs"


@pytest.mark.parametrize("at", range(3))
def test_a_kill_amid_a_copy_is_healed_by_the_same_copy(rig: OutputRig, tmp_path: Path, at: int) -> None:
    published(rig, tmp_path / "first")
    rig.reserve(AGAIN, job="k")
    left = at

    def kill(what: str, path: str) -> None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1

    rig.blobs.before = kill
    with pytest.raises(Killed):
        rig.copy(AGAIN, "j")
    rig.blobs.before = lambda what, path: None
    (tmp_path / "first" / "out.txt").unlink()  # from here on the copy needs no source
    again = rig.again()
    again.copy(AGAIN, "j")
    assert again.content("k") == "a\nb\n"


def test_a_job_that_gives_up_a_copy_half_way_runs_and_commits_over_it(rig: OutputRig, tmp_path: Path) -> None:
    published(rig, tmp_path / "first")
    rig.reserve(AGAIN, job="k")

    def fail_at_last(what: str, path: str) -> None:
        if path.endswith("out.txt"):
            raise DatastoreFailed("It does not answer.")

    rig.blobs.before = fail_at_last
    with pytest.raises(DatastoreFailed):
        rig.copy(AGAIN, "j", digest="1-reused")
    rig.blobs.before = lambda what, path: None
    rig.commit(AGAIN, "c", job="k", digest="1-output")
    assert rig.content("k") == "c\n"
    assert "reused_from" not in json.loads(rig.blobs.all()["again/job_report/summary.json"])


def test_the_script_s_hidden_files_and_links_come_along_and_ours_do_not(rig: OutputRig, tmp_path: Path) -> None:
    first = tmp_path / "first"
    rig.reserve(first, file_name="")
    (first / ".hidden").write_text("theirs")
    (tmp_path / "elsewhere").write_text("linked")
    (first / "link").symlink_to(tmp_path / "elsewhere")
    rig.commit(first, summary_only=True)
    rig.reserve(tmp_path / "second", job="k", file_name="")
    rig.copy(tmp_path / "second", "j", summary_only=True)
    assert sorted(os.listdir(tmp_path / "second")) == [".hidden", "job_report", "link"]
    assert (tmp_path / "second" / "link").read_text() == "linked"
