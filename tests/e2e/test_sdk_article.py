"""The article's program, from its first import to its output, on the mesh of a home: by azureml's names and by ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.living import environment

AZUREML = """
import os
from azureml.core import Datastore, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.dataset import Dataset
from azureml.core.environment import Environment
from azureml.core.experiment import Experiment
from azureml.core.model import Model
from azureml.core.runconfig import DEFAULT_GPU_IMAGE
from azureml.contrib.pipeline.steps import ParallelRunConfig, ParallelRunStep
from azureml.pipeline.core import Pipeline, PipelineData
from azureml.widgets import RunDetails
"""
BATCHMESH = """
import os
from batchmesh import AmlCompute, ComputeTarget, ComputeTargetException, CondaDependencies, DEFAULT_GPU_IMAGE, Dataset
from batchmesh import Datastore, Environment, Experiment, Model, ParallelRunConfig, ParallelRunStep, Pipeline
from batchmesh import PipelineData, RunDetails, Workspace
"""
PROGRAM = """
ws = Workspace.from_config()
store = Datastore.register_local(ws, datastore_name="mnist_datastore", path="images", overwrite=True)
out_store = ws.get_default_datastore()

place = store.path("mnist/")
images = Dataset.File.from_files(path=place, validate=False).register(ws, "mnist_sample_data", create_new_version=True)
named = images.as_named_input("mnist_sample_data")
output = PipelineData(name="inferences", datastore=out_store, output_path_on_compute="mnist/results")

cluster = os.environ.get("AML_COMPUTE_CLUSTER_NAME", "cpu-cluster")
if cluster in ws.compute_targets and type(ws.compute_targets[cluster]) is AmlCompute:
    target = ws.compute_targets[cluster]
else:
    sizes = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", min_nodes="0", max_nodes=1)
    target = ComputeTarget.create(ws, cluster, sizes)
    target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    print(target.get_status().serialize())

model = Model.register(
    model_path="models/", model_name="mnist", tags={"pretrained": "mnist"}, description="weights", workspace=ws
)
env = Environment(name="batch_environment")
env.python.user_managed_dependencies = True
env.docker.enabled = True
env.docker.base_image = DEFAULT_GPU_IMAGE
env.spark.precache_packages = False

config = ParallelRunConfig(
    source_directory="scripts", entry_script="digits.py", mini_batch_size="5", error_threshold=10,
    output_action="append_row", environment=env, compute_target=target, node_count=4)
step = ParallelRunStep(
    name="batch-mnist", models=[model], parallel_run_config=config, inputs=[named], output=output, arguments=[],
    allow_reuse=True)
pipeline = Pipeline(workspace=ws, steps=[step])
run = Experiment(ws, "digit_identification").submit(pipeline)
RunDetails(run).show()
print("STATUS", run.wait_for_completion(show_output=True))

step_run = next(run.get_children())
step_run.get_output_data("inferences").download(local_path="inference_results")
for folder, _, files in os.walk("inference_results"):
    for file in files:
        if file.endswith("parallel_run_step.txt"):
            print("RESULT", os.path.join(folder, file))
"""
SCRIPT = """
import os
from azureml.core import Model

def init():
    global weight
    with open(os.path.join(Model.get_model_path("mnist"), "weights.txt")) as file:
        weight = int(file.read())

def run(mini_batch):
    print(f"run method start: {__file__}, run({mini_batch})")
    results = []
    for image in mini_batch:
        with open(image) as file:
            results.append("{}: {}".format(os.path.basename(image), int(file.read()) * weight))
    return results
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """What the article's reader has: images, a model, a script."""
    for name, text in {"models/weights.txt": "10", "scripts/digits.py": SCRIPT}.items():
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(text)
    (tmp_path / "images" / "mnist").mkdir(parents=True)
    for number in range(12):
        (tmp_path / "images" / "mnist" / f"{number:02}.txt").write_text(str(number))
    return tmp_path


def run(desk: Path, text: str, *how: str) -> str:
    """The program's standard output; its home ends with it."""
    (desk / "program.py").write_text(text)
    command = [sys.executable, *how, "program.py"]
    variables = environment(desk / "home")
    done = subprocess.run(command, cwd=desk, env=variables, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("imports", "how"), [(BATCHMESH, ()), (AZUREML, ("-m", "batchmesh.azureml"))], ids=["batchmesh", "azureml"]
)
def test_the_article_runs_from_its_first_import_to_its_output(desk: Path, imports: str, how: tuple[str, ...]) -> None:
    said = run(desk, imports + PROGRAM, *how)
    assert "STATUS Finished" in said
    assert "batch-mnist" in said
    assert "'currentNodeCount': 0" in said
    (result,) = [line.removeprefix("RESULT ") for line in said.splitlines() if line.startswith("RESULT")]
    assert (desk / result).read_text() == "".join(f"{number:02}.txt: {number * 10}\n" for number in range(12))
    assert os.listdir(Path(desk / result).parent) == ["parallel_run_step.txt"], "the report is no part of the output"


def test_the_article_run_twice_finds_its_compute_target_and_reuses_its_output(desk: Path) -> None:
    first = run(desk, BATCHMESH + PROGRAM)
    again = run(desk, BATCHMESH + PROGRAM + "\nprint('REUSED', step_run.is_reused, model.version, images.version)")
    assert "not reused" in first
    assert "currentNodeCount" not in again
    assert "REUSED True 1 1" in again
