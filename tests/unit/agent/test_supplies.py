"""How what a job needs is named and laid out for its workers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from batchmesh.agent.registered import name_in
from batchmesh.agent.supplies import filled_in, lay_out
from batchmesh.agent.working_folder import fill

if TYPE_CHECKING:
    from pathlib import Path

PATHS = {"labels": "/cache/labels.csv", "more-words": "/cache/words"}


@pytest.mark.parametrize(
    ("argument", "filled"),
    [
        ("{labels}", "/cache/labels.csv"),
        ("--labels={labels}", "--labels=/cache/labels.csv"),
        ("{labels}:{more-words}", "/cache/labels.csv:/cache/words"),
        ("{other}", "{other}"),
        ('{"labels": 1}', '{"labels": 1}'),
        ("{{labels}}", "{/cache/labels.csv}"),
        ("{", "{"),
        ("{}", "{}"),
        ("labels", "labels"),
    ],
)
def test_only_the_name_of_a_side_input_in_braces_becomes_its_path(argument: str, filled: str) -> None:
    assert filled_in([argument], PATHS) == (filled,)


def test_a_path_that_has_braces_itself_is_not_filled_in_again() -> None:
    assert filled_in(["{a}"], {"a": "/x/{b}", "b": "no"}) == ("/x/{b}",)


def test_a_model_that_is_a_folder_is_linked_and_one_that_is_a_file_lies_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cache" / "parts").mkdir(parents=True)
    (tmp_path / "cache" / "model.onnx").write_text("m")
    models = {"parts": tmp_path / "cache" / "parts", "digits": tmp_path / "cache" / "model.onnx"}
    lay_out(models, tmp_path / "models")
    assert (tmp_path / "models" / "parts").is_symlink()
    assert not (tmp_path / "models" / "digits").is_symlink()
    assert (tmp_path / "models" / "digits" / "model.onnx").read_text() == "m"


def test_a_working_folder_has_links_to_files_and_folders_of_its_own(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "mine"
    (source / "data" / "deep").mkdir(parents=True)
    (source / "__pycache__").mkdir()
    (source / "data" / "deep" / "words.txt").write_text("words")
    os.symlink(source, source / "data" / "round")
    folder.mkdir()
    fill(str(folder), str(source))
    assert (folder / "data" / "deep" / "words.txt").is_symlink()
    (folder / "data" / "deep" / "mine.txt").write_text("mine")
    assert os.listdir(source / "data" / "deep") == ["words.txt"]
    assert os.listdir(folder) == ["data"]


@pytest.mark.parametrize(
    ("path", "file", "name"),
    [
        ("/data/a.csv", "/data/a.csv", "a.csv"),
        ("/data", "/data/deep/a.csv", "deep/a.csv"),
        ("/data/", "/data/deep/a.csv", "deep/a.csv"),
        ("/data/*/a.csv", "/data/deep/a.csv", "deep/a.csv"),
        ("/data/d*/**/*.csv", "/data/deep/er/a.csv", "deep/er/a.csv"),
        ("", "deep/a.csv", "deep/a.csv"),
        ("*.csv", "a.csv", "a.csv"),
        ("deep", "deep/a.csv", "a.csv"),
    ],
)
def test_a_file_of_a_dataset_is_named_from_the_folder_that_its_path_begins_with(
    path: str, file: str, name: str
) -> None:
    assert name_in(path, file) == name
