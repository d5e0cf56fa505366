"""Inputs that name a dataset."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from batchmesh.entries import Dataset, Entry, EntryKind
from batchmesh.errors import BatchmeshError, NoEntry, SpecRefused
from batchmesh.job import JobSpec
from batchmesh.named_inputs import resolved
from batchmesh.submission import Submission

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh.catalog import Catalog

IMAGES = Dataset("files", ("datastore://blobs/images", "/more/*.png"))
ROWS = Dataset("csv", ("datastore://blobs/rows",), "absent", {"Column1": "string"})
OTHER_ROWS = Dataset("csv", ("/rows.csv",), "absent", {"Column1": "int64"})


class Named:
    """The datasets of one workspace, the newest version being 2."""

    def get(self, kind: EntryKind, name: str, version: int, workspace: str) -> Entry:
        found = {"images": IMAGES, "rows": ROWS, "other-rows": OTHER_ROWS}.get(name)
        if kind is not EntryKind.DATASET or found is None or version > 2 or workspace != "lab":
            raise NoEntry(f"Workspace {workspace} has no {kind} {name} {version}.")
        return Entry(name, found, version or 2, workspace)


def of(*inputs: str, **fields: Any) -> JobSpec:
    spec = JobSpec(entry_script="s.py", inputs=inputs, output="/out", workspace="lab", **fields)
    return resolved(spec, cast("Catalog", Named()))


def test_a_dataset_stands_for_its_paths_kind_and_columns() -> None:
    spec = of("/first.png", "dataset:images:1")
    assert spec.inputs == ("/first.png", "datastore://blobs/images", "/more/*.png")
    assert spec.input_sizes == (1, 2), "a dataset is split as a whole"
    assert (spec.input_kind, spec.csv_header, spec.csv_types) == ("files", "", {})
    spec = of("dataset:rows")
    assert (spec.inputs, spec.input_kind) == (("datastore://blobs/rows",), "csv")
    assert (spec.csv_header, spec.csv_types) == ("absent", {"Column1": "string"})


def test_what_the_job_says_itself_stands() -> None:
    spec = of("dataset:rows", csv_header="present", csv_types={"x": "bool"})
    assert (spec.csv_header, spec.csv_types) == ("present", {"x": "bool"})
    assert of("dataset:rows", input_kind="files").input_kind == "files"
    assert of("dataset:rows", input_kind="files").csv_types == {}
    assert of("dataset:rows", "dataset:other-rows", csv_types={"x": "bool"}).csv_types == {"x": "bool"}


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (["dataset:"], "'dataset:' names no dataset; it is dataset:NAME or dataset:NAME:VERSION"),
        (["dataset:rows:0"], "versions from 1"),
        (["dataset:rows:latest"], "versions from 1"),
        (["dataset:gone"], "has no dataset gone"),
        (["dataset:rows:3"], "has no dataset rows 3"),
        (["dataset:rows", "dataset:images"], "'dataset:rows' is csv and 'dataset:images' is files; run a job for each"),
        (["dataset:rows", "/b.parquet"], "'dataset:rows' is csv and '/b.parquet' is parquet"),
        (["dataset:rows", "dataset:other-rows"], "differ in their csv_types"),
    ],
)
def test_what_cannot_be_is_one_sentence(inputs: list[str], sentence: str) -> None:
    with pytest.raises((SpecRefused, NoEntry)) as refused:
        of(*inputs)
    assert isinstance(refused.value, BatchmeshError)
    assert sentence in str(refused.value)


def test_a_job_without_datasets_asks_nobody() -> None:
    spec = JobSpec(entry_script="s.py", inputs=("/a", "datastore://x/y"), output="/out")
    assert resolved(spec, cast("Catalog", None)) is spec


def test_a_submission_keeps_the_name_until_there_is_a_mesh(tmp_path: Path) -> None:
    script = tmp_path / "score.py"
    script.write_text("def run(mini_batch): return mini_batch")
    spec = Submission.prepare(script, ["dataset:rows:1", "./dataset:rows", "datastore://blobs/x"], "out").spec
    assert spec.inputs == ("dataset:rows:1", os.path.abspath("dataset:rows"), "datastore://blobs/x")
