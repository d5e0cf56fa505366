"""azureml's names in a process that asked for them: served by batchmesh, or refused in one sentence."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from batchmesh.azureml.finder import Finder, NameNotServed, sentence
from batchmesh.azureml.names import INSTEAD, SERVED

if TYPE_CHECKING:
    from pathlib import Path


def run(tmp_path: Path, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(body)
    command = [sys.executable, "-m", "batchmesh.azureml", str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)


def test_every_name_of_the_table_is_there(tmp_path: Path) -> None:
    imports = "\n".join(
        f"from {module} import {', '.join(names)}" if names else f"import {module}" for module, names in SERVED.items()
    )
    done = run(tmp_path, f"{imports}\nimport azureml.core\nprint(azureml.core.compute.AmlCompute.__module__)")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "batchmesh.sdk.aml_compute\n"


def test_a_program_sees_its_own_argv_folder_and_name(tmp_path: Path) -> None:
    (tmp_path / "sibling.py").write_text("value = 7")
    done = run(tmp_path, "import sys, sibling\nprint(sys.argv[1:], sibling.value, __name__)", "--a", "b")
    assert done.stdout == "['--a', 'b'] 7 __main__\n", done.stderr


@pytest.mark.parametrize(
    ("line", "use"),
    [
        ("from azureml.core import ScriptRunConfig", "run the script as a command"),
        ("from azureml.train.automl import AutoMLConfig", "run the script as a command"),
        ("from azureml.core.authentication import InteractiveLoginAuthentication", "config.json"),
        ("from azureml.pipeline.core import PipelineParameter", "a variable of the program"),
        ("from azureml.core import Worksapce", "did you mean Workspace?"),
        ("import azureml.core; azureml.core.Nothing", "azureml.core has ComputeTarget, Dataset"),
        ("from azureml.core import Run", "what Experiment.submit gave"),
    ],
)
def test_a_name_that_is_not_served_says_which_and_what_to_use(tmp_path: Path, line: str, use: str) -> None:
    done = run(tmp_path, f"print('before')\n{line}\nprint('behind')")
    assert done.returncode == 2
    assert done.stdout == "before\n"
    assert use in done.stderr
    assert "program.py, line 2: azureml." in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("core.Workspace.create('mine')", "Workspace.create is not served by batchmesh; Workspace has "),
        ("core.Model.lists()", "Model.lists is not served by batchmesh; did you mean list?"),
        ("core.Model.register(framework='x')", "Model.register takes no framework in batchmesh; leave it out."),
    ],
)
def test_what_a_class_does_not_have_is_one_sentence_too(tmp_path: Path, line: str, said: str) -> None:
    done = run(tmp_path, f"import azureml.core as core\n{line}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"batchmesh: {tmp_path}/program.py, line 2: {said}")
    assert done.stderr.count("\n") == 1


def test_a_program_may_catch_what_is_not_served_as_an_import_error(tmp_path: Path) -> None:
    body = "try:\n    from azureml.core import Run\nexcept ImportError as error:\n    print(error)"
    done = run(tmp_path, body)
    assert done.stdout.startswith("azureml.core.Run is not served by batchmesh; "), done.stderr


def test_the_programs_own_errors_are_its_own(tmp_path: Path) -> None:
    done = run(tmp_path, "raise SystemExit(7)")
    assert done.returncode == 7
    done = run(tmp_path, "1 / 0")
    assert "ZeroDivisionError" in done.stderr
    assert "AttributeError" in run(tmp_path, "import azureml.core\n(5).nothing").stderr
    assert run(tmp_path, "").returncode == 0


@pytest.mark.parametrize(("arguments", "status"), [((), 2), (("none.py",), 2), (("--help",), 0)])
def test_the_command_itself_refuses_in_one_line(tmp_path: Path, arguments: tuple[str, ...], status: int) -> None:
    command = [sys.executable, "-m", "batchmesh.azureml", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1)


def test_nothing_of_azureml_is_there_without_being_asked_for() -> None:
    assert not any(isinstance(each, Finder) for each in sys.meta_path)
    finder = Finder()
    assert finder.find_spec("json") is None
    assert finder.find_spec("azureml_user") is None
    with pytest.raises(NameNotServed):
        finder.find_spec("azureml.nothing")


@pytest.mark.parametrize("name", sorted(INSTEAD))
def test_each_sentence_is_one(name: str) -> None:
    said = sentence(name if name.startswith("azureml") else f"azureml.core.{name}")
    assert INSTEAD[name] in said
    assert said.endswith(".")
    assert "\n" not in said


def test_each_served_name_leads_somewhere() -> None:
    for names in SERVED.values():
        for name in names.values():
            module, _, last = name.rpartition(":")
            assert getattr(importlib.import_module(module or "batchmesh.sdk"), last) is not None
