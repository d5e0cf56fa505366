"""A job that goes on after its end, and its output of before: nothing of it is taken, and nothing of anyone else."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh import errors
from tests.support.storage import SUMMARY_ONLY, Frames, Storage, pb, refused, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST, SECOND = Frames(["a"], ["b"]), Frames(["a"], ["b"], ["c"])


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    yield from serving(tmp_path / "root")


def reported(state: str) -> str:
    return json.dumps({"state": state, "job_id": "j"})


def state_of(output: Path) -> str:
    said: str = json.loads((output / "job_report" / "summary.json").read_text())["state"]
    return said


def committed(storage: Storage, output: Path, frames: Frames, digest: str, **fields: Any) -> Any:
    return storage.commit(output, frames.places, digest=digest, summary_json=reported("SUCCEEDED"), **fields).manifest


@pytest.fixture
def output(storage: Storage, tmp_path: Path) -> Path:
    """The folder of a job that has succeeded."""
    folder = tmp_path / "output"
    storage.reserve(folder)
    storage.block(SECOND.blocks)
    committed(storage, folder, FIRST, "1")
    return folder


def test_the_output_of_before_stands_until_the_new_one_takes_its_place(storage: Storage, output: Path) -> None:
    assert "not empty" in refused(errors.OutputNotEmpty, storage.reserve, output)
    storage.reserve(output, resumed=True)
    again = storage.killed_and_started_again()
    again.reserve(output, resumed=True)
    assert (output / "out.txt").read_text() == "a\nb\n"
    before = (output / "out.txt").stat().st_ino
    assert committed(again, output, SECOND, "2").rows == 3
    assert (output / "out.txt").read_text() == "a\nb\nc\n"
    assert (output / "out.txt").stat().st_ino != before
    assert sorted(os.listdir(output)) == ["job_report", "out.txt"]
    again.reserve(output, resumed=True)
    assert committed(again, output, FIRST, "3").rows == 2
    again.end()


def test_a_round_that_fails_leaves_the_output_of_before_beside_its_own_report(storage: Storage, output: Path) -> None:
    for number in (2, 3):
        storage.reserve(output, resumed=True)
        storage.commit(output, FIRST.places, digest=f"{number}", report_only=True, summary_json=reported("FAILED"))
        assert (output / "out.txt").read_text() == "a\nb\n"
        assert state_of(output) == "FAILED"
    refused(errors.NoOutput, list, storage.stub.ReadOutput(pb.ReadOutputRequest(job_id="j")))
    storage.reserve(output, resumed=True)
    assert committed(storage, output, SECOND, "4").rows == 3
    assert (output / "out.txt").read_text() == "a\nb\nc\n"


def test_a_job_goes_on_when_its_output_has_been_moved_away(storage: Storage, output: Path, tmp_path: Path) -> None:
    (output / "out.txt").rename(tmp_path / "mine.txt")
    storage.reserve(output, resumed=True)
    committed(storage, output, SECOND, "2")
    assert (tmp_path / "mine.txt").read_text() == "a\nb\n"
    assert (output / "out.txt").read_text() == "a\nb\nc\n"
    output.rename(tmp_path / "all of it")
    storage.reserve(output, resumed=True)
    assert committed(storage, output, FIRST, "3").rows == 2


def test_what_is_not_the_jobs_own_is_not_replaced_by_it(storage: Storage, output: Path) -> None:
    own = output / "out.txt"
    own.write_text("edited\n")
    assert "out.txt" in refused(errors.OutputNotEmpty, storage.reserve, output, resumed=True)
    own.unlink()
    own.write_text("of somebody\n")  # it may well be given the same inode
    assert "move it away" in refused(errors.OutputNotEmpty, storage.reserve, output, resumed=True)
    own.unlink()
    (output / "theirs").write_text("theirs")
    assert "theirs" in refused(errors.OutputNotEmpty, storage.reserve, output, resumed=True)
    (output / "theirs").unlink()
    storage.reserve(output, resumed=True)
    own.write_text("of somebody\n")
    assert "out.txt" in refused(errors.OutputChanged, committed, storage, output, SECOND, "2")
    assert own.read_text() == "of somebody\n"


def test_a_report_of_another_job_that_succeeded_is_not_replaced(storage: Storage, output: Path) -> None:
    (output / "out.txt").unlink()
    summary = output / "job_report" / "summary.json"
    summary.write_text(json.dumps({"state": "SUCCEEDED", "job_id": "k"}))
    assert "job_report" in refused(errors.OutputNotEmpty, storage.reserve, output, resumed=True)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_second_round_killed_around_its_rename_is_redone(storage: Storage, output: Path, renamed: bool) -> None:
    storage.reserve(output, resumed=True)
    kept = storage.root / "kept"
    shutil.copytree(storage.root / "jobs" / "j", kept)
    manifest = storage.root / "jobs" / "j" / "manifest.json"
    first = json.loads(manifest.read_text())
    os.link(output / "out.txt", output.parent / "first")
    committed(storage, output, SECOND, "2")
    second = json.loads(manifest.read_text())
    storage.end(signal.SIGKILL)
    assert (second["earlier_inode"], second["earlier_modified"]) == (first["inode"], first["modified"])
    # The state of the disk after a kill between the manifest and the last rename, or after it.
    manifest.write_text(json.dumps({**second, "published": False}))
    shutil.copy(kept / "reservation.json", manifest.parent)
    if not renamed:
        (output.parent / "first").rename(output / "out.txt")
    again = Storage(storage.root)
    assert committed(again, output, SECOND, "2").rows == 3
    assert (output / "out.txt").read_text() == "a\nb\nc\n"
    again.end()


def test_a_job_whose_script_writes_its_own_files_goes_on_among_them(storage: Storage, tmp_path: Path) -> None:
    output = tmp_path / "output"
    storage.reserve(output, output_action=SUMMARY_ONLY)
    (output / "of the script").write_text("x")
    storage.commit(output, Frames().places, output_action=SUMMARY_ONLY, digest="1", summary_json=reported("FAILED"))
    refused(errors.OutputNotEmpty, storage.reserve, output, output_action=SUMMARY_ONLY)
    storage.reserve(output, output_action=SUMMARY_ONLY, resumed=True)
    storage.commit(output, Frames().places, output_action=SUMMARY_ONLY, digest="2", summary_json=reported("SUCCEEDED"))
    assert sorted(os.listdir(output)) == ["job_report", "of the script"]
    assert state_of(output) == "SUCCEEDED"
