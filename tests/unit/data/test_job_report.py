"""The report of an earlier job is no input: it is left out where it stands directly in the folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from batchmesh.data.listing import InputRefused, list_input

if TYPE_CHECKING:
    from pathlib import Path

OURS = json.dumps({"job_id": "j", "state": "SUCCEEDED", "batchmesh_version": "0.1"})


def output(folder: Path) -> Path:
    """The output folder of a job."""
    (folder / "job_report").mkdir(parents=True)
    (folder / "job_report" / "summary.json").write_text(OURS)
    (folder / "job_report" / "failed_items.jsonl").write_text("{}\n")
    (folder / "rows.csv").write_text("a\n1\n")
    return folder


def names(folder: Path, text: str = "") -> list[str]:
    return [path.removeprefix(f"{folder}/") for path in list_input(text or str(folder))]


def test_the_report_of_an_earlier_job_is_left_out(tmp_path: Path) -> None:
    folder = output(tmp_path / "out")
    assert names(folder) == ["rows.csv"]
    assert names(folder, f"{folder}/**") == ["rows.csv"]


def test_it_is_an_input_where_it_is_asked_for_or_lies_deeper(tmp_path: Path) -> None:
    folder = output(tmp_path / "out")
    assert len(names(folder, f"{folder}/job_report")) == 2
    assert names(folder, f"{folder}/job_report/*.jsonl") == ["job_report/failed_items.jsonl"]
    assert len(names(tmp_path)) == 3


@pytest.mark.parametrize("summary", [b"no json", b"[]", b"{}", b'{"state": "SUCCEEDED"}', b"\xff"])
def test_a_folder_of_that_name_that_is_not_ours_is_read(tmp_path: Path, summary: bytes) -> None:
    folder = output(tmp_path / "out")
    (folder / "job_report" / "summary.json").write_bytes(summary)
    assert len(names(folder)) == 3


def test_a_listing_goes_on_behind_any_file_of_it(tmp_path: Path) -> None:
    folder = output(tmp_path / "out")
    (folder / "a.csv").write_text("a\n1\n")
    (folder / "z.csv").write_text("a\n1\n")
    assert list(list_input(str(folder), f"{folder}/a.csv")) == [f"{folder}/rows.csv", f"{folder}/z.csv"]


def test_an_output_with_nothing_but_a_report_holds_no_file(tmp_path: Path) -> None:
    folder = output(tmp_path / "out")
    (folder / "rows.csv").unlink()
    with pytest.raises(InputRefused, match="holds no file"):
        names(folder)
