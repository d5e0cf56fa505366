"""Pipelines of several steps on a standing mesh, through the SDK: data between them, failures, clients that leave."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from batchmesh import (
    AmlCompute,
    Client,
    ComputeTarget,
    Dataset,
    Datastore,
    Environment,
    Experiment,
    Model,
    OutputFileDatasetConfig,
    ParallelRunConfig,
    ParallelRunStep,
    Pipeline,
    PipelineData,
    PipelineRun,
    RunDetails,
    RunFailed,
    StepRun,
    Workspace,
)
from batchmesh.errors import (
    DatastoreFailed,
    EntryExists,
    InputRefused,
    NoComputeTarget,
    NoEntry,
    NoJob,
    NoLog,
    Refused,
    SpecRefused,
)
from batchmesh.sdk import ComputeTargetException
from tests.support.story import wait_for, write_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.mesh import Mesh

NAMES = """
    import argparse, os
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels")
    given, _ = parser.parse_known_args()
    label = open(given.labels).read() if given.labels else ""
    def run(mini_batch):
        return [os.path.basename(path) + label for path in mini_batch]
"""
LINES = """
    def run(mini_batch):
        return [f"{len(open(path).read().splitlines())} lines" for path in mini_batch]
"""
DOUBLE = """
    def run(mini_batch):
        return mini_batch.assign(double=mini_batch["x"] * 2)
"""
BROKEN = """
    def run(mini_batch):
        raise ValueError("no such digit")
"""
GATED = """
    import os, time
    def run(mini_batch):
        while not os.path.exists(os.environ["GATE"]):
            time.sleep(0.01)
        return mini_batch
"""


@pytest.fixture
def ws(mesh: Mesh, request: pytest.FixtureRequest) -> Iterator[Workspace]:
    """A workspace of this test's own."""
    with Client(mesh.address) as client:
        yield Workspace(workspace_name=f"ws-{abs(hash(request.node.nodeid)):x}", client=client)


@pytest.fixture
def store(ws: Workspace, tmp_path: Path) -> Datastore:
    """A datastore with six files in a folder, and one beside it."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    for number in range(6):
        (tmp_path / "data" / "images" / f"{number}.txt").write_text(str(number))
    (tmp_path / "data" / "label.txt").write_text("!")
    return Datastore.register_local(ws, "data", tmp_path / "data")


def config(folder: Path, script: str, name: str = "script.py", **given: Any) -> ParallelRunConfig:
    path = write_script(folder, script, name)
    settings: dict[str, Any] = {"error_threshold": 0, "output_action": "append_row", "compute_target": None, **given}
    return ParallelRunConfig(None, path.name, node_count=1, source_directory=str(path.parent), **settings)


def images(store: Datastore) -> Any:
    return Dataset.File.from_files(store.path("images/")).as_named_input("images")


def output_of(run: StepRun, folder: Path) -> str:
    """The text of the one file that the run of a step has written."""
    run.get_output().download(str(folder / run.name))
    (path,) = [path for path in (folder / run.name).rglob("*") if path.is_file()]
    return path.read_text()


def test_data_goes_from_step_to_step_and_side_inputs_to_both(ws: Workspace, store: Datastore, tmp_path: Path) -> None:
    label = Dataset.File.from_files(str(tmp_path / "data" / "label.txt")).as_named_input("label")
    files = Dataset.File.from_files((store, "images")).skip(1).take(4).as_named_input("images")
    names, last = PipelineData("names"), OutputFileDatasetConfig("lines", (ws.get_default_datastore(), "out/{run-id}"))
    first = ParallelRunStep(
        "first-step",
        config(tmp_path, NAMES, "names.py", mini_batch_size="2"),
        [files],
        names,
        side_inputs=[label],
        arguments=["--labels", label],
    )
    second = ParallelRunStep("second-step", config(tmp_path, LINES, "lines.py"), [names.as_dataset()], last)
    pipeline = Pipeline(ws, [second, first])
    assert pipeline.validate() == []
    run = Experiment(ws, "steps").submit(pipeline)
    assert run.wait_for_completion(show_output=False) == "Finished"
    one, two = run.get_steps()
    assert output_of(one, tmp_path) == "".join(f"{number}.txt!\n" for number in (1, 2, 3, 4))
    assert output_of(two, tmp_path) == "4 lines\n", "the report of the first step is no input of the second"
    assert run.get_metrics()["Processed Items"] == 5
    assert run.get_metrics()["Total MiniBatches"] == 3, "two of two files, and one"
    assert run.get_metrics(recursive=True)[two.id]["Total Items"] == 1
    assert run.find_step_run("second-step")[0].id == two.id
    assert run.get_pipeline_output("names").download(str(tmp_path / "again")) > 0


def test_a_data_frame_and_a_window_of_it_are_inputs(ws: Workspace, tmp_path: Path) -> None:
    rows = Dataset.Tabular.from_pandas_dataframe(pd.DataFrame({"x": range(100)})).skip(10)
    settings = config(tmp_path, DOUBLE, mini_batch_size="20 rows", append_row_file_name="out.csv")
    step = ParallelRunStep("double-rows", settings, [rows.take(50).as_named_input("rows")], PipelineData("table"))
    run = Experiment(ws, "rows").submit(Pipeline(ws, [step]))
    run.wait_for_completion(show_output=False)
    (step_run,) = run.get_steps()
    step_run.get_output_data("table").download(str(tmp_path / "out"))
    (path,) = (tmp_path / "out").rglob("*.csv")
    assert pd.read_csv(path)["double"].tolist() == list(range(20, 120, 2))
    again = rows.take(50).register(ws, "rows")
    assert again.settled(ws).paths == rows.take(50).settled(ws).paths, "the same rows are the same files"


def test_a_window_of_csv_files_is_an_input(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("".join(f"{number}\n" for number in ("x", *range(10))))
    rows = Dataset.Tabular.from_delimited_files(str(tmp_path / "rows.csv")).skip(2).take(3)
    settings = config(tmp_path, DOUBLE, append_row_file_name="out.csv")
    step = ParallelRunStep("double-window", settings, [rows], PipelineData("table"))
    run = Experiment(ws, "window").submit(Pipeline(ws, [step]))
    run.wait_for_completion(show_output=False)
    run.get_pipeline_output("table").download(str(tmp_path / "out"))
    (path,) = (tmp_path / "out").rglob("*.csv")
    assert pd.read_csv(path)["double"].tolist() == [4, 6, 8]


def test_a_data_frame_that_parquet_cannot_hold_is_refused(ws: Workspace) -> None:
    for frame, said in ((pd.DataFrame({"x": [1, "a"]}), "column x"), (pd.DataFrame({"x": []}), "nothing in")):
        with pytest.raises(InputRefused, match=said):
            Dataset.Tabular.from_pandas_dataframe(frame).register(ws, "mixed")


def test_a_failed_step_is_raised_with_the_scripts_own_error(
    ws: Workspace, store: Datastore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = PipelineData("broken")
    first = ParallelRunStep("broken-step", config(tmp_path, BROKEN, "b.py", run_max_try=1), [images(store)], broken)
    second = ParallelRunStep(
        "later-step", config(tmp_path, LINES, "l.py"), [broken.as_dataset()], PipelineData("later")
    )
    run = Experiment(ws, "broken").submit(Pipeline(ws, [first, second]))
    with pytest.raises(RunFailed, match="broken-step") as failed:
        run.wait_for_completion(show_output=True)
    assert failed.value.failure is not None
    assert "no such digit" in failed.value.failure.traceback
    said = capsys.readouterr().out
    assert f"PipelineRunId: {run.id}" in said
    assert "ValueError: no such digit" in said
    assert run.wait_for_completion(show_output=False, raise_on_error=False) == run.get_status() == "Failed"
    assert [each.get_status() for each in run.get_steps()] == ["Failed", "Failed"]
    RunDetails(run).show()
    assert "broken-step" in capsys.readouterr().out
    assert "<svg" in RunDetails(run.find_step_run("broken-step")[0])._repr_html_()


def test_logs_and_the_report_are_files_of_the_run(ws: Workspace, store: Datastore, tmp_path: Path) -> None:
    script = "def run(mini_batch):\n    print('hello from', len(mini_batch))\n    return mini_batch\n"
    step = ParallelRunStep("talking-step", config(tmp_path, script), [images(store)], PipelineData("out"))
    run = Experiment(ws, "talking").submit(Pipeline(ws, [step]))
    run.wait_for_completion(show_output=False)
    (step_run,) = run.get_steps()

    def stdout() -> str:
        return step_run.get_stdout_log()

    assert "hello from 6" in wait_for(stdout, "the log")
    report = "talking-step/logs/sys/job_report/summary.json"
    assert report in run.get_file_names()
    run.download_file(report, str(tmp_path / "summary.json"))
    assert json.loads((tmp_path / "summary.json").read_text())["items"]["succeeded"] == 6
    run.download_files("talking-step/logs/user/stdout", str(tmp_path / "logs"))
    assert any("hello" in path.read_text() for path in (tmp_path / "logs").rglob("*.txt"))
    with pytest.raises(Refused, match="none of"):
        run.download_file("other-step/x")
    with pytest.raises(NoLog):
        run.download_file("talking-step/logs/none.txt", str(tmp_path / "new" / "none.txt"))
    assert not (tmp_path / "new").exists()


def test_a_cancelled_run_says_so(ws: Workspace, store: Datastore, tmp_path: Path) -> None:
    gate = {"GATE": str(tmp_path / "gate")}
    step = ParallelRunStep(
        "gated-step", config(tmp_path, GATED, environment_variables=gate), [images(store)], PipelineData("out")
    )
    run = Experiment(ws, "cancelled").submit(Pipeline(ws, [step]))
    assert run.get_status() in ("NotStarted", "Running")
    run.cancel()
    assert run.wait_for_completion(show_output=False, raise_on_error=False) == "Canceled"
    with pytest.raises(RunFailed, match="it was cancelled"):
        run.wait_for_completion(show_output=False)


PROGRAM = """
import sys
from batchmesh import *
ws = Workspace.from_config()
files = Dataset.File.from_files(sys.argv[1]).as_named_input("files")
settings = ParallelRunConfig(None, sys.argv[2], 0, "append_row", None, 1, environment_variables={"GATE": sys.argv[3]})
step = ParallelRunStep("gated-step", settings, [files], PipelineData("out"), allow_reuse=False)
run = Experiment(ws, "outliving").submit(Pipeline(ws, [step]))
print(run.id, flush=True)
if sys.argv[4] == "wait":
    run.wait_for_completion(show_output=True)
"""


@pytest.mark.parametrize("how", ["leave", "wait"])
def test_a_run_on_a_standing_mesh_outlives_the_program_that_submitted_it(mesh: Mesh, tmp_path: Path, how: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"scheduler": mesh.address, "workspace_name": f"outliving-{how}"}))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").touch()
    script, gate = write_script(tmp_path, GATED), tmp_path / "gate"
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "in"), str(script), str(gate), how]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as program:
        try:
            assert program.stdout is not None
            run_id = program.stdout.readline().strip()
            assert run_id.startswith("run-"), program.stderr and program.stderr.read()
            if how == "wait":
                assert program.stdout.readline() == f"PipelineRunId: {run_id}\n"
                assert "StepRun gated-step" in program.stdout.readline()
                program.send_signal(signal.SIGINT)
                assert "You have left; the run goes on" in program.communicate(timeout=30)[0]
            program.wait(30)
        finally:
            program.kill()
    gate.touch()
    ws = Workspace.from_config(str(tmp_path))
    found = PipelineRun(Experiment(ws, "outliving"), run_id)
    assert found.wait_for_completion(show_output=False) == "Finished"
    assert [each.name for each in found.get_steps()] == ["gated-step"]
    assert [each.id for each in Experiment(ws, "outliving").get_runs()] == [run_id]
    assert [each.name for each in Experiment.list(ws)] == ["outliving"]


def test_what_is_wrong_is_one_sentence_before_anything_runs(ws: Workspace, store: Datastore, tmp_path: Path) -> None:
    def submitted(inputs: Any = None, **given: Any) -> PipelineRun:
        settings = config(tmp_path, LINES, **{key: given.pop(key) for key in ("compute_target",) if key in given})
        step = ParallelRunStep("wrong-step", settings, inputs or [images(store)], PipelineData("out"), **given)
        return Experiment(ws, "wrong").submit(Pipeline(ws, [step]))

    sizes = AmlCompute.provisioning_configuration(max_nodes=1)
    missing = Dataset.File.from_files(store.path("none/"), validate=False).as_named_input("missing")
    for kind, call, said in (
        (NoEntry, lambda: Dataset.get_by_name(ws, "unknown"), "unknown"),
        (NoEntry, lambda: Datastore.get(ws, "nowhere"), "nowhere"),
        (NoEntry, lambda: Model(ws, "nobody"), "nobody"),
        (NoEntry, lambda: Environment.get(ws, "nothing"), "nothing"),
        (NoEntry, lambda: submitted(models=["nobody"]), "nobody"),
        (SpecRefused, lambda: Dataset.get_by_name(ws, "unknown", "newest"), "newest"),
        (SpecRefused, lambda: Model(ws, "nobody", version="newest"), "newest"),  # type: ignore[arg-type]
        (SpecRefused, lambda: Environment.get(ws, "nothing", "newest"), "newest"),
        (InputRefused, lambda: Dataset.File.from_files(store.path("none/")), "none"),
        (InputRefused, lambda: submitted([missing]), "none"),
        (InputRefused, lambda: submitted(side_inputs=[missing]), "none"),
        (InputRefused, lambda: submitted([Dataset.File.from_files(store.path("images/")).skip(9)]), "take and skip"),
        (NoComputeTarget, lambda: submitted(compute_target="nowhere"), "nowhere"),
        (ComputeTargetException, lambda: ComputeTarget(ws, "nowhere"), "nowhere"),
        (ComputeTargetException, lambda: ComputeTarget.create(ws, "cpu", sizes), "Nobody here can start"),
        (ComputeTargetException, lambda: ComputeTarget.create(ws, "1 cpu", sizes), "1 cpu"),
        (ComputeTargetException, lambda: ComputeTarget.create(ws, "cpu", None), "provisioning_configuration"),
        (ComputeTargetException, lambda: ComputeTarget.attach(ws, "other", None), "--compute-target other"),
        (SpecRefused, lambda: Experiment(ws, "x"), "experiment name"),
        (NoJob, lambda: PipelineRun(Experiment(ws, "wrong"), "run-0"), "run-0"),
    ):
        with pytest.raises(kind, match=said) as refused:
            call()
        assert "\n" not in str(refused.value)
        assert str(refused.value).endswith(".")
    assert list(ws.client.list(workspace=ws.name)) == []


def test_an_unknown_version_is_refused_and_versions_grow(ws: Workspace, store: Datastore) -> None:
    first = Dataset.File.from_files(store.path("images/")).register(ws, "images", tags={"kind": "digits"})
    assert (first.version, first.tags, first.id) == (1, {"kind": "digits"}, "images:1")
    assert first.register(ws, "images").version == 1, "the same content is the same version"
    other = Dataset.File.from_files(store.path("label.txt"))
    with pytest.raises(EntryExists):
        other.register(ws, "images")
    assert other.register(ws, "images", create_new_version=True).version == 2
    assert Dataset.get_by_name(ws, "images").to_path() == ["/label.txt"]  # type: ignore[union-attr]
    assert Dataset.get_by_name(ws, "images", version=1).version == 1
    assert [each.version for each in ws.datasets.values()] == [2]
    with pytest.raises(NoEntry):
        Dataset.get_by_name(ws, "images", version=3)


def test_a_datastore_of_another_workspace_is_refused(ws: Workspace, store: Datastore) -> None:
    other = Workspace(workspace_name=ws.name + "-other", client=ws.client)
    with pytest.raises(Refused, match="register it there"):
        Dataset.File.from_files(store.path("images/")).register(other, "images")
    assert store.name in ws.datastores
    assert store.name not in other.datastores


def test_files_go_up_and_come_down(ws: Workspace, store: Datastore, tmp_path: Path) -> None:
    default = ws.get_default_datastore()
    assert (default.is_default, default.datastore_type, store.is_default) == (True, "Local", False)
    place = default.upload(str(tmp_path / "data"), "up", show_progress=False)
    assert str(place) == "datastore://workspaceblobstore/up"
    assert len(Dataset.File.from_files(place).to_path()) == 7
    (tmp_path / "data" / "label.txt").write_text("changed")
    default.upload_files([str(tmp_path / "data" / "label.txt")], target_path="up", show_progress=False)
    default.download(str(tmp_path / "down"), "up/label.txt", show_progress=False)
    assert (tmp_path / "down" / "up" / "label.txt").read_text() == "!", "what is there is left as it is"
    (tmp_path / "data" / ".hidden").write_text("first")
    for _ in range(2):
        default.upload_files([str(tmp_path / "data" / ".hidden")], target_path="up", show_progress=False)
        (tmp_path / "data" / ".hidden").write_text("second")
    default.store.download("up/.hidden", tmp_path / "hidden")
    assert (tmp_path / "hidden").read_text() == "first"
    default.upload_files([str(tmp_path / "data" / "label.txt")], None, "up", overwrite=True, show_progress=False)
    assert default.download(str(tmp_path / "down"), "up", overwrite=True, show_progress=False) == 7
    assert (tmp_path / "down" / "up" / "label.txt").read_text() == "changed"
    with pytest.raises(InputRefused, match="does not exist"):
        default.upload(str(tmp_path / "none"))
    with pytest.raises(Refused, match="Azure Files"):
        Datastore.register_azure_file_share(ws, "share", "s", "a")


def test_a_folder_that_this_host_does_not_see_is_said_to_be_elsewhere(ws: Workspace, tmp_path: Path) -> None:
    elsewhere = Datastore.register_local(ws, "elsewhere", tmp_path / "elsewhere")
    assert Dataset.File.from_files(elsewhere.path("images/")).content.paths == ("datastore://elsewhere/images/",)
    (tmp_path / "file").touch()
    with pytest.raises(DatastoreFailed, match="does not see"):
        elsewhere.upload_files([str(tmp_path / "file")])
    assert not (tmp_path / "elsewhere").exists()


def test_a_model_has_versions_and_comes_back_as_it_was(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model" / "more").mkdir(parents=True)
    (tmp_path / "model" / "more" / "weights").write_text("1")
    (tmp_path / "model.onnx").write_text("2")
    folder = Model.register(ws, "model", "mnist", tags={"area": "digits"}, description="of a folder")
    assert (folder.version, folder.description) == (1, "of a folder")
    file = Model.register(ws, "model.onnx", "mnist", tags={"area": "digits", "kind": "onnx"})
    assert file.version == 2
    assert Path(Model.get_model_path("mnist", version=1, _workspace=ws), "more", "weights").read_text() == "1"
    for _ in range(2):
        assert Path(Model.get_model_path("mnist", _workspace=ws)).read_text() == "2"
    assert [each.version for each in Model.list(ws)] == [1, 2]
    assert [each.version for each in Model.list(ws, latest=True)] == [2]
    assert [each.version for each in Model.list(ws, tags=[["kind", "onnx"]])] == [2]
    assert Model.list(ws, name="other") == []
    assert ws.models["mnist"].version == 2
    target = folder.download(str(tmp_path / "down"))
    assert Path(target, "more", "weights").read_text() == "1"
    with pytest.raises(Refused, match="is there already"):
        folder.download(str(tmp_path / "down"))
    assert folder.download(str(tmp_path / "down"), exist_ok=True) == target
    with pytest.raises(InputRefused):
        Model.register(ws, "none", "mnist")


def test_a_workspace_is_found_again_by_the_config_that_it_wrote(ws: Workspace, tmp_path: Path) -> None:
    ws.write_config(str(tmp_path))
    (tmp_path / "below").mkdir()
    found = Workspace.from_config(str(tmp_path / "below"))
    assert (found.name, found.client.address) == (ws.name, ws.client.address)
    assert Workspace.from_config(str(tmp_path)).client is found.client, "one client for each mesh"
    with pytest.raises(Refused, match="does not exist"):
        Workspace.from_config(str(tmp_path / "none"))


def test_an_environment_is_kept_in_versions(ws: Workspace) -> None:
    made = Environment("batch")
    made.python.user_managed_dependencies = True
    assert made.register(ws).version == "1"
    made.python.interpreter_path = "/usr/bin/python3"
    assert made.register(ws).version == "2"
    assert Environment.get(ws, "batch").python.interpreter_path == "/usr/bin/python3"
    assert Environment.get(ws, "batch", version="1").python.interpreter_path == "python"
    assert list(ws.environments) == ["batch"]
