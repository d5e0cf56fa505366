"""What a worker finds on its node besides its script: models, side inputs, and the names of Azure ML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.agent.files import Files
from batchmesh.datastores.cache import Cache
from batchmesh.entries import Entry, LocalFolder
from batchmesh.entry_messages import entry_to_proto
from batchmesh.v1 import agent_pb2, job_pb2
from tests.support.agent_node import AgentNode, Outcome, until, with_node

if TYPE_CHECKING:
    from pathlib import Path

Status = agent_pb2.PoolStatus


async def outcome_of(node: AgentNode, script: str, job_id: str = "job", **spec: Any) -> Outcome:
    """The outcome of one mini-batch on one worker."""
    stream = await node.open(job_id, {"score.py": script}, 1, **spec)
    await stream.run(["/a"])
    outcome = (await stream.outcomes_of(1))[1]
    await stream.finish()
    return outcome


def model(node: AgentNode, name: str, files: dict[str, str], file: str = "", version: int = 1) -> job_pb2.JobModel:
    return job_pb2.JobModel(name=name, version=version, digest=node.storage.add_source(files), file=file)


def side_input(node: AgentNode, name: str, files: dict[str, str], file: str = "") -> job_pb2.SideInput:
    return job_pb2.SideInput(name=name, digest=node.storage.add_source(files), file=file)


def test_models_lie_below_the_model_folder_and_under_the_path_that_azureml_gives(tmp_path: Path) -> None:
    script = """
import os
from azureml.core import Model
from azureml.core.model import Model as Same
def init():
    assert Same is Model
    folder = os.environ["AZUREML_MODEL_DIR"]
    assert sorted(os.listdir(folder)) == ["digits", "words"]
    assert os.listdir(os.path.join(folder, "digits")) == ["model.txt"]
def run(paths):
    file, words = Model.get_model_path("digits"), Model.get_model_path("words", _workspace=None)
    return [open(file).read() + open(os.path.join(words, "deep", "two.txt")).read() + open(words + "/one.txt").read()]
"""

    async def story(node: AgentNode) -> None:
        models = [
            model(node, "digits", {"model.txt": "d"}, "model.txt"),
            model(node, "words", {"one.txt": "1", "deep/two.txt": "2"}),
        ]
        outcome = await outcome_of(node, script, models=models)
        assert outcome.failure is None, outcome.failure
        assert node.frame("job", outcome).endswith(b"d21\n")

    with_node(tmp_path, story)


def test_a_folder_of_one_file_is_told_from_a_file(tmp_path: Path) -> None:
    script = "from azureml.core import Model\ndef run(paths): return [open(Model.get_model_path('m') + '/a').read()]\n"

    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(node, script, models=[model(node, "m", {"a": "one"})])
        assert outcome.failure is None, outcome.failure
        assert node.frame("job", outcome).endswith(b"one\n")

    with_node(tmp_path, story)


def test_jobs_with_another_version_of_a_model_share_no_worker(tmp_path: Path) -> None:
    script = """
import os
from azureml.core import Model
text = open(Model.get_model_path("m")).read()
def run(paths):
    return [text]
"""

    async def story(node: AgentNode) -> None:
        for text in ("old", "new"):
            outcome = await outcome_of(node, script, text, models=[model(node, "m", {"a": text}, "a")])
            assert node.frame(text, outcome).endswith(text.encode() + b"\n")

    with_node(tmp_path, story)


def test_the_next_job_reads_what_a_side_input_of_a_datastore_is_by_then(tmp_path: Path) -> None:
    """The workers that have read the old one in init() serve no other job."""
    script = """
import os
def init():
    global text
    text = open(os.environ["AZUREML_DATAREFERENCE_labels"]).read()
def run(paths):
    return [text]
"""
    (tmp_path / "store").mkdir()

    async def story(node: AgentNode) -> None:
        node.node.fetching.serve("datastore", Files(Cache(tmp_path / "files", 2**20), patience=0.0))
        node.storage.datastores["here"] = entry_to_proto(Entry("here", LocalFolder(str(tmp_path / "store"))))
        labels = job_pb2.SideInput(name="labels", reference="datastore://here/labels")
        for text in ("old", "new"):
            (tmp_path / "store" / "labels").write_text(text)
            outcome = await outcome_of(node, script, text, side_inputs=[labels])
            assert outcome.failure is None, outcome.failure
            assert node.frame(text, outcome).endswith(text.encode() + b"\n")

    with_node(tmp_path, story)


def test_a_model_is_fetched_once_for_all_jobs_of_a_node_and_stays_while_a_worker_may_read_it(tmp_path: Path) -> None:
    script = """
from azureml.core import Model
def run(paths):
    return [open(Model.get_model_path("m")).read()]
"""

    async def story(node: AgentNode) -> None:
        digits = model(node, "m", {"a": "digits"}, "a")
        for number in range(3):
            outcome = await outcome_of(node, script + "#" * number, f"job-{number}", models=[digits])
            assert node.frame(f"job-{number}", outcome).endswith(b"digits\n")
        assert node.storage.reads == 3 + 1, "three sources, one model"
        cached = tmp_path / "work" / "artifacts" / digits.digest
        assert cached.exists(), "idle workers still have it"
        node.node.pools.kill_all()
        await node.node.pools.end_all()
        await until(lambda: not cached.exists())

    with_node(tmp_path, story, artifact_cache_bytes=0)


def test_the_path_of_a_side_input_stands_in_the_arguments(tmp_path: Path) -> None:
    script = """
import json, sys
from azureml.core import Run
at = sys.argv.index("--labels")
def run(paths):
    labels, folder, other = sys.argv[at + 1], sys.argv[at + 2][7:], sys.argv[at + 3]
    assert json.loads(other) == {"labels": "{nothing}"}, other
    assert Run.get_context().input_datasets == {"labels": labels, "words": folder}
    return [open(labels).read() + open(folder + "/b").read()]
"""
    arguments = ["--labels", "{labels}", "--more={words}", '{"labels": "{nothing}"}']

    async def story(node: AgentNode) -> None:
        side_inputs = [side_input(node, "labels", {"a": "A"}, "a"), side_input(node, "words", {"b": "B"})]
        outcome = await outcome_of(node, script, arguments=arguments, side_inputs=side_inputs)
        assert outcome.failure is None, outcome.failure
        assert node.frame("job", outcome).endswith(b"AB\n")

    with_node(tmp_path, story)


@pytest.mark.parametrize("kind", ["models", "side_inputs"])
def test_a_node_that_cannot_have_what_a_job_needs_names_it(tmp_path: Path, kind: str) -> None:
    async def story(node: AgentNode) -> None:
        make: Any = model if kind == "models" else side_input
        one = make(node, "digits", {"a": "A"}, "a")
        del node.storage.artifacts[one.digest]
        spec: dict[str, Any] = {kind: [one]}
        stream = await node.open("job", {"score.py": "def run(paths): return paths"}, 1, **spec)
        await stream.until(lambda stream: stream.status.phase == Status.PHASE_FAILED)
        assert stream.status.failure.kind == job_pb2.Failure.KIND_ENVIRONMENT
        what = "Model" if kind == "models" else "Side input"
        assert stream.status.failure.message.startswith(f"{what} digits could not be fetched: ")
        await stream.finish()

    with_node(tmp_path, story)


def test_a_job_that_ends_does_not_wait_for_what_it_lacks(tmp_path: Path) -> None:
    async def story(node: AgentNode) -> None:
        node.storage.sends.clear()
        lacking = [model(node, "digits", {"a": "A"}, "a")]
        stream = await node.open("job", {"score.py": "def run(paths): return paths"}, 1, models=lacking)
        await stream.until(lambda stream: stream.status.phase == Status.PHASE_PREPARING)
        await stream.finish()
        node.storage.sends.set()

    with_node(tmp_path, story)


def test_the_run_of_a_worker_is_its_job_and_needs_no_service(tmp_path: Path) -> None:
    script = """
import os
from azureml.core import Run, Workspace, Experiment, Datastore, Environment
from azureml.core.run import Run as Same
run_at_import = Run.get_context()
def run(paths):
    run = Run.get_context(allow_offline=False)
    assert Same is Run and isinstance(run, Run)
    run.log("loss", 0.5)
    run.log_list("losses", [1, 2])
    run.log_row("row", a=1)
    run.tag("colour", "red")
    assert run.get_metrics() == {"loss": 0.5, "losses": [1, 2], "row": {"a": 1}} and run.get_tags() == {"colour": "red"}
    assert run.parent.parent is None
    assert run.get_details()["runId"] == run.id and run.get_status() == "Running"
    workspace = run.experiment.workspace
    assert isinstance(workspace, Workspace) and Workspace.from_config().name == workspace.name
    return [f"{run_at_import.id} {run.id} {run.parent.id} {run.experiment.name} {workspace.name}"]
"""

    async def story(node: AgentNode) -> None:
        for job_id in ("one", "two"):
            spec = {"pipeline_run": f"all-{job_id}", "experiment": "trial", "workspace": "team"}
            outcome = await outcome_of(node, script, job_id, **spec)
            assert outcome.failure is None, outcome.failure
            assert node.frame(job_id, outcome).endswith(f"one {job_id} all-{job_id} trial team\n".encode())

    with_node(tmp_path, story)


def test_the_entry_script_knows_its_folders_and_has_a_logger(tmp_path: Path) -> None:
    script = """
import logging, os
from azureml_user.parallel_run import EntryScript
def run(paths):
    entry = EntryScript()
    assert entry is EntryScript() and isinstance(entry.logger, logging.Logger)
    entry.logger.info("hello")
    assert os.path.samefile(entry.working_dir, os.getcwd())
    assert entry.output_dir == os.environ["AZUREML_BI_OUTPUT_PATH"] and os.path.isdir(entry.log_dir)
    return [entry.agent_name]
"""

    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(node, script)
        assert outcome.failure is None, outcome.failure
        assert node.frame("job", outcome).endswith(b"node-process000\n")
        assert "INFO EntryScript: hello" in node.storage.log("job", "stderr")

    with_node(tmp_path, story)


NOT_SERVED = {
    "from azureml.core import Keyvault": "azureml.core.Keyvault is not served in batchmesh's workers: they have ",
    "import azureml.train.dnn": "azureml.train is not served in batchmesh's workers: they have azureml.core and ",
    "from azureml.core import Datastore; Datastore.get(None, 'x')": "azureml.core.Datastore.get is not served",
    "from azureml.core import Model; Model.register(None)": "Model.register is not served in batchmesh's workers; ",
    "from azureml.core import Run; Run.get_context().upload_file('a')": "workers; write files below --output",
    "from azureml.core import Dataset; Dataset.Tabular.from_x()": "Dataset.Tabular is not served in batchmesh's worker",
}


@pytest.mark.parametrize("line", NOT_SERVED)
def test_a_name_that_is_not_served_says_which_and_what_to_use(tmp_path: Path, line: str) -> None:
    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(node, f"def run(paths):\n    {line}\n", run_max_try=1)
        assert outcome.failure is not None
        assert NOT_SERVED[line] in outcome.failure.message

    with_node(tmp_path, story)


def test_the_real_azureml_stays_where_it_is_installed(tmp_path: Path) -> None:
    real = {"azureml/__init__.py": "", "azureml/core/__init__.py": "class Model:\n    real = True\n"}
    (tmp_path / "installed").mkdir()
    for name, text in real.items():
        path = tmp_path / "installed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    script = """
from azureml.core import Model
from azureml_user.parallel_run import EntryScript
def run(paths):
    return [f"{Model.real} {bool(EntryScript().logger)}"]
"""

    async def story(node: AgentNode) -> None:
        variables = {"PYTHONPATH": str(tmp_path / "installed")}
        outcome = await outcome_of(node, script, environment_variables=variables)
        assert outcome.failure is None, outcome.failure
        assert node.frame("job", outcome).endswith(b"True True\n")

    with_node(tmp_path, story)


def test_processes_of_the_script_have_the_names_and_the_models_of_the_job(tmp_path: Path) -> None:
    script = """
import multiprocessing
from azureml.core import Model
def read(name):
    return open(Model.get_model_path(name)).read()
def ask(name):
    try:
        Model.get_model_path(name)
    except RuntimeError as error:
        return str(error)
def run(paths):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert "can only be fetched by the worker itself" in pool.apply(ask, ("other",))
        return pool.map(read, ["m"])
"""

    async def story(node: AgentNode) -> None:
        outcome = await outcome_of(node, script, models=[model(node, "m", {"a": "text"}, "a")])
        assert outcome.failure is None, outcome.failure
        assert node.frame("job", outcome).endswith(b"text\n")

    with_node(tmp_path, story)


def test_each_worker_sees_one_gpu(tmp_path: Path) -> None:
    script = "import os\ndef run(paths): return [os.environ.get('CUDA_VISIBLE_DEVICES', 'none')]\n"

    async def story(node: AgentNode) -> None:
        stream = await node.open("job", {"score.py": script})
        await stream.run(["/a"], ["/b"], affinities=[0, 0])
        outcomes = await stream.outcomes_of(2)
        assert {node.frame("job", each).split(b"\n")[-2][-1:] for each in outcomes.values()} == {b"7"}
        assert stream.status.workers == 1
        await stream.finish()

    with_node(tmp_path, story, gpus=("7",), slots=4)
