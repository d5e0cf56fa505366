"""What entry scripts get under the names of azureml.core, without an agent."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from batchmesh.azureml_names.site.azureml.core import Dataset, Experiment, Model, Run, Workspace
from batchmesh.azureml_names.site.azureml.core import __getattr__ as other_name

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AZUREML_MODEL_DIR with a file and a folder of one file."""
    folder = tmp_path / "models"
    for name in ("file/m.txt", "cache/deep/a.txt"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(name)
        (folder / name).chmod(0o444)
    (folder / "folder").symlink_to(folder / "cache")
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(folder))
    return folder


def test_a_model_is_the_file_or_the_folder_that_was_registered(models: Path) -> None:
    assert Model.get_model_path("file") == str(models / "file" / "m.txt")
    assert Model.get_model_path("folder") == str(models / "folder")


def test_a_downloaded_model_is_the_scripts_own(models: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "mine")
    file = Path(Model(Workspace(), "file").download(target))
    folder = Path(Model(Workspace(), id="folder").download(target))
    assert (file.name, folder.name) == ("m.txt", "folder")
    for each in (file, folder / "deep" / "a.txt"):
        each.write_text("changed")
    with pytest.raises(FileExistsError, match="say exist_ok=True"):
        Model(Workspace(), "file").download(target)
    assert Path(Model(Workspace(), "file").download(target, exist_ok=True)).read_text() == "file/m.txt"


def test_a_model_that_is_not_the_jobs_needs_an_agent(models: Path) -> None:
    with pytest.raises(RuntimeError, match="model://other/3 can only be fetched by the worker itself"):
        Model.get_model_path("other", version=3)


def described(kind: str, files: dict[str, Path], **more: Any) -> Dataset:
    fields = {"version": 2, "kind": kind, "csv_header": "", "csv_types": {}, **more}
    return Dataset("data", {**fields, "files": [[name, str(path)] for name, path in files.items()]})


def test_a_table_dataset_becomes_one_dataframe(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text(f"id,at\n0{number},2020-01-0{number + 1}\n")
        pd.DataFrame({"id": [number]}).to_parquet(tmp_path / f"{number}.parquet")
        (tmp_path / f"{number}.jsonl").write_text(f'{{"id": {number}}}\n')

    def files(kind: str) -> dict[str, Path]:
        return {each.name: each for each in sorted(tmp_path.glob(f"*.{kind}"))}

    table = described("csv", files("csv"), csv_types={"id": "string", "at": "timestamp"}).to_pandas_dataframe()
    assert table["id"].tolist() == ["00", "01"]
    assert table["at"].dt.day.tolist() == [1, 2]
    for kind in ("parquet", "jsonl"):
        assert described(kind, files(kind)).to_pandas_dataframe()["id"].tolist() == [0, 1]
    headless = described("csv", files("csv"), csv_header="absent").to_pandas_dataframe()
    assert len(headless) == 4


def test_a_file_dataset_can_be_copied_and_mounted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    files = described("files", {"deep/a.txt": tmp_path / "a.txt"})
    assert files.to_path() == ["/deep/a.txt"]
    (copy,) = files.download(str(tmp_path / "mine"))
    assert Path(copy).read_text() == "a"
    with pytest.raises(FileExistsError, match="say overwrite=True"):
        files.download(str(tmp_path / "mine"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "own").touch()
    with files.mount(str(tmp_path / "there")) as mounted:
        assert (Path(mounted.mount_point) / "deep" / "a.txt").read_text() == "a"
    assert (tmp_path / "there" / "own").exists()
    with pytest.raises(TypeError, match="Dataset data is one of files"):
        files.to_pandas_dataframe()


def test_metrics_of_a_run_go_to_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZUREML_RUN_ID", "job-1")
    monkeypatch.setenv("AZUREML_ROOT_RUN_ID", "run-7")
    with caplog.at_level(logging.INFO, "azureml.run"):
        run = Run.get_context()
        run.log("loss", 0.5, step=3)
    assert caplog.messages == ["metric loss: 0.5"]
    assert (run.id, run.parent and run.parent.id, Run(Experiment(name="e"), "run-7").parent) == ("job-1", "run-7", None)


def test_a_name_of_the_submitting_program_can_be_imported_and_no_more() -> None:
    environment = other_name("Environment")
    with pytest.raises(ImportError, match=r"azureml\.core\.model\.InferenceConfig is not served"):
        from batchmesh.azureml_names.site.azureml.core.model import InferenceConfig  # noqa: F401
    uses: list[Callable[[], object]] = [
        lambda: environment("mine"),
        lambda: environment.get,
        lambda: other_name("Keyvault"),
    ]
    for use in uses:
        with pytest.raises(ImportError, match="is not served in batchmesh's workers"):
            use()
    with pytest.raises(AttributeError):
        other_name("__wrapped__")
