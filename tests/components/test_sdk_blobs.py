"""The SDK over blob containers, against Azurite: read anonymously, written with a key, wrong credentials refused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from batchmesh import (
    Client,
    Dataset,
    Datastore,
    Experiment,
    NotServed,
    ParallelRunConfig,
    ParallelRunStep,
    Pipeline,
    PipelineData,
    Workspace,
)
from batchmesh.errors import BadEntry, BatchmeshError, InputRefused
from tests.support.azurite import ACCOUNT, KEY, Azurite
from tests.support.mesh import Mesh
from tests.support.story import write_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCRIPT = """
    import os
    def run(mini_batch):
        return [f"{os.path.basename(path)}: {open(path).read()}" for path in mini_batch]
"""
WRONG_KEY = "d3Jvbmcta2V5"


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as azurite:
        sampledata = azurite.container("sampledata", public=True)
        for number in range(7):
            sampledata.upload_blob(f"mnist/{number}.txt", str(number))
        azurite.container("results")
        yield azurite


@pytest.fixture
def ws(azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("BATCHMESH_AZURE_BLOB_ENDPOINT", azurite.endpoint)
    with Mesh(tmp_path) as mesh, Client(mesh.address) as client:
        yield Workspace(client=client)


def test_images_of_a_public_container_go_into_a_container_of_ones_own(ws: Workspace, tmp_path: Path) -> None:
    mnist = Datastore.register_azure_blob_container(ws, "mnist_datastore", "sampledata", "pipelinedata", overwrite=True)
    results = Datastore.register_azure_blob_container(ws, "results", "results", ACCOUNT, account_key=KEY)
    images = Dataset.File.from_files(path=mnist.path("mnist/"), validate=True).register(
        ws, "mnist", create_new_version=True
    )
    assert images.skip(5).to_path() == ["/5.txt", "/6.txt"]
    script = write_script(tmp_path, SCRIPT)
    config = ParallelRunConfig(None, script.name, 0, "append_row", None, 1, source_directory=str(script.parent))
    step = ParallelRunStep(
        "blob-to-blob", config, [images.as_named_input("mnist")], PipelineData("inferences", results)
    )
    run = Experiment(ws, "blobs").submit(Pipeline(ws, [step]))
    assert run.wait_for_completion(show_output=False) == "Finished"
    (step_run,) = run.get_children()
    step_run.get_output_data("inferences").download(str(tmp_path / "down"))
    path = tmp_path / "down" / "azureml" / step_run.id / "inferences" / "parallel_run_step.txt"
    assert path.read_text() == "".join(f"{number}.txt: {number}\n" for number in range(7))
    assert any(name.endswith("summary.json") for name in step_run.get_file_names())


def test_files_go_up_to_a_container_and_come_down(ws: Workspace, tmp_path: Path) -> None:
    store = Datastore.register_azure_blob_container(ws, "results", "results", ACCOUNT, account_key=KEY)
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "a.csv").write_text("x\n1\n2\n")
    place = store.upload(str(tmp_path / "up"), "tables", show_progress=False)
    rows = Dataset.Tabular.from_delimited_files(place)
    assert rows.to_pandas_dataframe()["x"].tolist() == [1, 2]
    assert store.download(str(tmp_path / "down"), "tables", show_progress=False) == 1
    assert (tmp_path / "down" / "tables" / "a.csv").read_text() == "x\n1\n2\n"


def test_what_does_not_open_is_one_sentence_without_its_secret(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    register = Datastore.register_azure_blob_container
    refusals: list[tuple[type[BatchmeshError], Callable[[], Datastore]]] = [
        (BatchmeshError, lambda: register(ws, "wrong", "results", ACCOUNT, account_key=WRONG_KEY)),
        (BatchmeshError, lambda: register(ws, "wrong", "results", ACCOUNT)),
        (BatchmeshError, lambda: register(ws, "wrong", "nowhere", ACCOUNT, account_key=KEY)),
        (BadEntry, lambda: register(ws, "wrong", "results", ACCOUNT, account_key="no base64!")),
        (NotServed, lambda: register(ws, "wrong", "results", ACCOUNT, create_if_not_exists=True)),
    ]
    for kind, call in refusals:
        with pytest.raises(kind) as refused:
            call()
        assert str(refused.value).endswith(".")
        assert "\n" not in str(refused.value)
        assert WRONG_KEY not in str(refused.value)
    assert "wrong" not in ws.datastores
    store = register(ws, "later", "results", ACCOUNT, account_key=WRONG_KEY, skip_validation=True)
    with pytest.raises(BatchmeshError):
        Dataset.File.from_files(store.path("a"))
    with pytest.raises(InputRefused):
        Dataset.File.from_files(register(ws, "mnist", "sampledata", "pipelinedata").path("none/"))
    assert WRONG_KEY not in caplog.text
    assert WRONG_KEY not in repr(store) + repr(vars(store))
