"""Entry scripts written for ParallelRunStep, of many habits, run as they are and give what a plain loop gives.

Each folder of azure_scripts/ is one source. The mesh registers the models, stages the side inputs and sets argv and
variables; the plain loop is told by hand what a worker finds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh import azureml_names
from batchmesh.client import Client
from batchmesh.entries import Dataset, Entry
from tests.support import plain_loop
from tests.support.story import adds_up, final, lines, run_job, succeeded, write_files, write_script

if TYPE_CHECKING:
    from tests.support.mesh import Mesh

SCRIPTS = Path(__file__).parent / "azure_scripts"
FILES, SIZE = 7, 3


@dataclass
class Habit:
    """How a script is run: its settings, and what is said of it behind `--`."""

    script: str = "score.py"
    arguments: tuple[str, ...] = ()
    kind: str = "files"
    size: int = SIZE
    models: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def summary_only(self) -> bool:
        return self.settings.get("output_action") == "summary_only"


_FILES_OF_ITS_OWN = {"output_action": "summary_only"}
HABITS = {
    "argv_at_import": Habit(arguments=("--factor", "2.5", "--unknown", "x")),
    "arguments_in_init": Habit(arguments=("--prefix=p", "--flag")),
    "writes_files": Habit(settings=_FILES_OF_ITS_OWN),
    "siblings": Habit(),
    "subfolder": Habit(script="scoring/batch/score.py"),
    "prints_megabytes": Habit(),
    "starts_processes": Habit(),
    "returns_tuple": Habit(),
    "returns_array": Habit(),
    "returns_series": Habit(kind="csv"),
    "returns_dataframe": Habit(kind="csv"),
    "takes_context": Habit(settings=_FILES_OF_ITS_OWN),
    "shuts_down": Habit(settings=_FILES_OF_ITS_OWN),
    "model_path": Habit(arguments=("--model_name", "line"), models=("line",)),
    "model_folder": Habit(models=("parts",)),
    "logs_to_run": Habit(),
    "entry_script_logger": Habit(settings={"logging_level": "DEBUG"}),
    "reads_environment": Habit(settings={"environment_variables": {"SCORING_MODE": "fast", "SUFFIX": "-"}}),
    "multiprocessing_pool": Habit(size=FILES),
    "exits_in_run": Habit(size=1, settings={"error_threshold": -1, "run_max_try": 1}),
    "configures_logging": Habit(),
    "pickles_classes": Habit(),
    "side_input": Habit(arguments=("--labels", "{labels}", "--template", "{label}!")),
    "threads_and_globals": Habit(),
}


@dataclass
class World:
    """What the jobs of a test find: input files, models and a side input."""

    folder: Path
    paths: list[Path]
    models: dict[str, Path]
    labels: Path

    def inputs(self, kind: str) -> list[str]:
        return [str(each) for each in (self.paths if kind == "files" else sorted(self.folder.glob("tables/*.csv")))]


@pytest.fixture
def world(tmp_path: Path) -> World:
    paths = write_files(tmp_path / "in", FILES, str)
    tables = tmp_path / "tables"
    tables.mkdir()
    for number in range(2):
        rows = [f"item {number}{row},{row}.5,{row + number}" for row in range(4)]
        (tables / f"{number}.csv").write_text("\n".join(["name,width,height", *rows]) + "\n")
    line = tmp_path / "line.json"
    line.write_text('{"weight": 3, "bias": 0.5}')
    parts = tmp_path / "parts"
    (parts / "second").mkdir(parents=True)
    (parts / "first.txt").write_text("1.5")
    (parts / "second" / "second.txt").write_text("2")
    labels = tmp_path / "labels.csv"
    labels.write_text("number,label\n" + "".join(f"{number},label {number}\n" for number in range(FILES)))
    return World(tmp_path, paths, {"line": line, "parts": parts}, labels)


def test_every_script_is_told_how_to_run() -> None:
    assert sorted(HABITS) == sorted(each.name for each in SCRIPTS.iterdir())


@pytest.mark.parametrize("name", HABITS)
def test_a_script_gives_what_a_plain_loop_gives(mesh: Mesh, tmp_path: Path, world: World, name: str) -> None:
    habit = HABITS[name]
    expected, written = by_hand(name, habit, world)
    job = succeeded(
        run_job(
            mesh.address,
            Path(habit.script),
            world.folder / ("in" if habit.kind == "files" else "tables"),
            tmp_path / "out",
            source_directory=SCRIPTS / name,
            arguments=habit.arguments,
            models=[f"{model}={world.models[model]}" for model in habit.models],
            side_inputs={"labels": world.labels} if name == "side_input" else {},
            process_count_per_node=1,
            **({"mini_batch_size": habit.size} if habit.kind == "files" else {}),
            **habit.settings,
        )
    )
    adds_up(job)
    if habit.summary_only:
        assert contents(tmp_path / "out") == contents(written)
    else:
        assert lines(job) == expected


def by_hand(name: str, habit: Habit, world: World) -> tuple[list[str], Path]:
    """The lines that a plain loop gives, and the folder that its --output was."""
    here = world.folder / "by-hand"
    output, result, models = here / "out", here / "result.json", here / "models"
    output.mkdir(parents=True)
    models.mkdir()
    shutil.copytree(SCRIPTS / name, here / "source")
    lay_out(models, [world.models[each] for each in habit.models])
    inputs = world.inputs(habit.kind)
    arguments = [each.replace("{labels}", str(world.labels)) for each in habit.arguments]
    ours = ["--mini_batch_size", str(habit.size), "--error_threshold", "0", "--process_count_per_node", "1"]
    wish = {
        "script": habit.script,
        "argv": ["--output", str(output), *ours, *arguments],
        "kind": habit.kind,
        "size": habit.size,
        "inputs": inputs,
        "context": name == "takes_context",
        "result": str(result),
    }
    variables = {
        "PYTHONPATH": azureml_names.SITE,
        "AZUREML_MODEL_DIR": str(models),
        "AZUREML_BI_OUTPUT_PATH": str(output),
        "AZUREML_RUN_ID": "by-hand",
        "BATCHMESH_WORKING_FOLDER": str(here / "source"),
        "BATCHMESH_WORKER": "by-hand",
        **habit.settings.get("environment_variables", {}),
    }
    done = subprocess.run(
        [sys.executable, plain_loop.__file__, json.dumps(wish)],
        cwd=here / "source",
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert result.exists(), done.stderr.decode()
    return json.loads(result.read_text()), output


def lay_out(folder: Path, models: list[Path]) -> None:
    """As AZUREML_MODEL_DIR is on a node."""
    for each in models:
        place = folder / each.stem
        if each.is_dir():
            place.symlink_to(each)
        else:
            place.mkdir()
            (place / each.name).symlink_to(each)


def contents(folder: Path) -> list[str]:
    """What the script's own files hold; their names may be chance."""
    files = [each for each in folder.rglob("*") if each.is_file() and "job_report" not in each.parts]
    return sorted(each.read_text() for each in files)


def test_a_script_asks_for_models_and_datasets_that_its_job_does_not_name(mesh: Mesh, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 2, str)
    (tmp_path / "labels.csv").write_text("number,label\n0,zero\n1,one\n")
    (tmp_path / "model.txt").write_text("m")
    script = write_script(
        tmp_path,
        """
        import os
        from azureml.core import Dataset, Model, Run

        def init():
            global labels
            workspace = Run.get_context().experiment.workspace
            table = Dataset.get_by_name(workspace, name="labels").to_pandas_dataframe()
            labels = dict(zip(table.number, table.label))
            files = Dataset.get_by_name(workspace, "items", version=1)
            assert files.to_path() == ["/item-00000.txt", "/item-00001.txt"]
            assert [open(each).read() for each in files.download("items")] == ["0", "1"]
            with files.mount() as mounted:
                assert os.listdir(mounted.mount_point)

        def run(mini_batch):
            model = open(Model.get_model_path("unnamed", version=1)).read()
            return [model + labels[int(open(each).read())] for each in mini_batch]
        """,
    )
    with Client(mesh.address) as client:
        client.catalog.register_model("unnamed", tmp_path / "model.txt", workspace="asks")
        csv, files = Dataset("csv", (str(tmp_path / "labels.csv"),)), Dataset("files", (str(tmp_path / "in"),))
        client.catalog.register(Entry("labels", csv, workspace="asks"))
        client.catalog.register(Entry("items", files, workspace="asks"))
        job = client.submit(script, [str(each) for each in paths], tmp_path / "out", attended=True, workspace="asks")
        assert lines(succeeded(final(client, job.job_id))) == ["mzero", "mone"]


def test_a_model_that_nobody_has_registered_is_the_scripts_error(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 1, str)
    script = write_script(
        tmp_path,
        """
        from azureml.core import Model

        def run(mini_batch):
            try:
                Model.get_model_path("nobody")
            except Exception as error:
                return [str(error)]
        """,
    )
    (line,) = lines(succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out")))
    assert line.startswith("model://nobody/0 cannot be fetched: ")
