"""What is refused of an entry script before it is sent anywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from batchmesh.errors import ScriptRefused, SpecRefused
from batchmesh.script import SETTINGS_FILE, check_script, split_arguments

if TYPE_CHECKING:
    from pathlib import Path

_RUN = "def run(mini_batch):\n    return mini_batch\n"


def written(folder: Path, text: str, name: str = "score.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        _RUN,
        "from elsewhere import run",
        "from elsewhere import score as run",
        "from elsewhere import *",
        "run = lambda mini_batch: mini_batch",
        "run: object = print",
        "init, run = load()",
        "try:\n    from fast import run\nexcept ImportError:\n    def run(mini_batch): return mini_batch",
        "if True:\n    def run(mini_batch): return mini_batch",
        "# -*- coding: latin-1 -*-\n" + _RUN,
    ],
)
def test_any_way_to_define_run_at_the_top_level_is_taken(tmp_path: Path, text: str) -> None:
    assert check_script(written(tmp_path, text)).name == "score.py"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def init(): pass", "defines no run()"),
        ("class Model:\n    def run(self, mini_batch): return []", "defines no run()"),
        ("def init():\n    run = 1", "defines no run()"),
        ("async def run(mini_batch): return []", "as async"),
        ("x = 1\ndef run(mini_batch:\n", "line 2"),
        ("x = '\0'", "does not compile"),
    ],
)
def test_a_script_that_cannot_run_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ScriptRefused, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        check_script(written(tmp_path, text))


def test_a_missing_script_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScriptRefused, match="does not exist"):
        check_script(tmp_path / "none.py")
    with pytest.raises(ScriptRefused, match="is not a file"):
        check_script(tmp_path)


def test_the_script_is_relative_to_the_source_directory_and_lies_inside(tmp_path: Path) -> None:
    written(tmp_path / "code", _RUN, "steps/score.py")
    written(tmp_path, _RUN, "outside.py")
    entry = check_script("steps/score.py", tmp_path / "code")
    assert (entry.root, entry.name) == (tmp_path / "code", "steps/score.py")
    assert check_script(tmp_path / "code" / "steps" / "score.py", tmp_path / "code").name == "steps/score.py"
    with pytest.raises(ScriptRefused, match="outside the source directory"):
        check_script("../outside.py", tmp_path / "code")
    with pytest.raises(ScriptRefused, match="is not a folder"):
        check_script("score.py", tmp_path / "none")


def test_to_csv_settings_beside_the_script_are_read(tmp_path: Path) -> None:
    script = written(tmp_path, _RUN)
    keywords = {"sep": ",", "index": True}
    written(tmp_path, json.dumps({"append_row": {"pandas.DataFrame.to_csv": keywords}}), SETTINGS_FILE)
    assert json.loads(check_script(script).dataframe_to_csv_json) == keywords


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold"),
        ('{"append_row": {"pandas.DataFrame.to_csv": {"seperator": ","}}}', "cannot take 'seperator'"),
        ('{"append_row": {"pandas.DataFrame.to_csv": {"path_or_buf": "x"}}}', "cannot take 'path_or_buf'"),
        ('{"append_row": {"pandas.DataFrame.to_csv": {"encoding": "utf-16"}}}', "encoding 'utf-16' begins each text"),
    ],
)
def test_bad_to_csv_settings_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    script = written(tmp_path, _RUN)
    written(tmp_path, text, SETTINGS_FILE)
    with pytest.raises(ScriptRefused, match=sentence):
        check_script(script)


def test_runtime_flags_among_the_arguments_become_settings() -> None:
    left, settings = split_arguments(
        [
            *("--model", "iris", "--progress_update_timeout", "90", "--task_overhead_timeout=5", "-v", "rest"),
            *("--first_task_creation_timeout", "60", "--append_row_dataframe_header", "True"),
        ]
    )
    assert left == ("--model", "iris", "-v", "rest")
    assert settings == {
        "progress_update_timeout": 90.0,
        "task_overhead_timeout": 5.0,
        "first_task_creation_timeout": 60.0,
        "append_row_dataframe_header": True,
    }


def test_a_runtime_flag_without_a_sensible_value_is_refused() -> None:
    for arguments in (["--progress_update_timeout", "soon"], ["--task_overhead_timeout"]):
        with pytest.raises(SpecRefused, match="number of seconds"):
            split_arguments(arguments)


def test_the_first_argument_has_to_be_a_flag() -> None:
    with pytest.raises(SpecRefused, match="The script's first argument is 'x'; it has to begin with '-'"):
        split_arguments(["x", "--factor", "2"])
    assert split_arguments(["-f", "x"]) == (("-f", "x"), {})


@pytest.mark.parametrize("argument", ["--output", "--mini_batch_size=3"])
def test_a_reserved_flag_is_refused_by_name(argument: str) -> None:
    with pytest.raises(SpecRefused, match=argument.partition("=")[0]):
        split_arguments(["--model", "iris", argument])
