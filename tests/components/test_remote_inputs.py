"""Jobs whose inputs are blobs: as if they lay here, on a real mesh, against Azurite."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmesh.client import Client
from batchmesh.entries import AzureBlobContainer, Entry
from batchmesh.errors import BatchmeshError
from tests.support.azurite import ACCOUNT, KEY, Azurite
from tests.support.mesh import Mesh
from tests.support.story import (
    adds_up,
    failed_items,
    final,
    lines,
    run_job,
    succeeded,
    until,
    write_script,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.storage.blob import ContainerClient

TEXTS = {f"texts/{number:03}.txt": f"text {number}" for number in range(200)}
CSV = "x,y\n" + "".join(f"{number},{number % 7}\n" for number in range(5000))
READ = """
    import os
    def run(paths):
        return [f"{os.path.basename(path)} {open(path).read()}" for path in paths]
"""
SUM = """
    def run(rows):
        return [f"{x} {y}" for x, y in zip(rows.x, rows.y)]
"""


@dataclass
class Lab:
    """A mesh, and an account in which `data` is a container with the test's blobs."""

    mesh: Mesh
    azurite: Azurite
    container: ContainerClient

    def run(self, script: Path, inputs: list[str], output: Path, **settings: Any) -> list[str]:
        """The lines of the output of a job that has to succeed."""
        job = succeeded(run_job(self.mesh.address, script, inputs, output, **settings))
        adds_up(job)
        return lines(job)

    def register(self, name: str, **how: str) -> None:
        blob = AzureBlobContainer("data", ACCOUNT, **{"endpoint": self.azurite.endpoint, **how})
        with Client(self.mesh.address) as client:
            client.catalog.register(Entry(name, blob), overwrite=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Azurite, ContainerClient]]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as azurite:
        container = azurite.container("data")
        parquet = io.BytesIO()
        pq.write_table(pa.table({"x": range(5000), "y": [n % 7 for n in range(5000)]}), parquet, row_group_size=1500)
        for name, text in {**TEXTS, "rows/a.csv": CSV}.items():
            container.upload_blob(name, text)
        container.upload_blob("rows.parquet", parquet.getvalue())
        yield azurite, container


@pytest.fixture(scope="module")
def lab(data: tuple[Azurite, ContainerClient], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Mesh(tmp_path_factory.mktemp("mesh"), agents=2, scheduler_options=("--plan-slice", "5KB")) as mesh:
        lab = Lab(mesh, *data)
        lab.register("blobs", account_key=KEY)
        yield lab


def test_two_hundred_blobs_give_what_a_plain_loop_gives(lab: Lab, tmp_path: Path) -> None:
    script = write_script(tmp_path, READ)
    expected = [f"{Path(name).name} {text}" for name, text in TEXTS.items()]
    assert lab.run(script, ["datastore://blobs/texts"], tmp_path / "out") == expected
    here = tmp_path / "here.txt"
    here.write_text("local")
    mixed = lab.run(script, ["datastore://blobs/texts/19*.txt", str(here)], tmp_path / "mixed", mini_batch_size=3)
    assert mixed == [*expected[190:], "here.txt local"]


@pytest.mark.parametrize("table", ["rows", "rows.parquet"])
@pytest.mark.parametrize("size", ["700 rows", "20KB"])
def test_a_table_blob_gives_what_a_plain_loop_gives(lab: Lab, tmp_path: Path, table: str, size: str) -> None:
    script = write_script(tmp_path, SUM)
    rows = lab.run(script, [f"datastore://blobs/{table}"], tmp_path / "out", mini_batch_size=size)
    assert rows == [f"{number} {number % 7}" for number in range(5000)]


def test_a_bad_row_and_a_bad_item_are_named_by_the_reference(lab: Lab, tmp_path: Path) -> None:
    lab.container.upload_blob("bad/rows.csv", "x,y\n1,a\n2\n3,c\n" + "4,d\n" * 50, overwrite=True)
    script = write_script(
        tmp_path, SUM.replace("def run(rows):", "def run(rows):\n        assert 3 not in list(rows.x)")
    )
    settings: dict[str, Any] = {"mini_batch_size": "10 rows", "error_threshold": -1, "run_max_try": 1}
    job = succeeded(run_job(lab.mesh.address, script, ["datastore://blobs/bad"], tmp_path / "out", **settings))
    failures = [(each["kind"], (each["item"] or each["slice"])["file"]) for each in failed_items(job)]
    assert failures == [(kind, "datastore://blobs/bad/rows.csv") for kind in ("UNREADABLE_ROW", "RUN_RAISED")]
    adds_up(job)


def test_blobs_that_go_while_the_job_runs_fail_by_name_and_alone(lab: Lab, tmp_path: Path) -> None:
    for number in range(20):
        lab.container.upload_blob(f"going/{number:02}.txt", str(number), overwrite=True)
    script = write_script(
        tmp_path,
        f"""
        import pathlib, time
        def run(paths):
            while not pathlib.Path({str(tmp_path / "go")!r}).exists():
                time.sleep(0.01)
            return [open(path).read() for path in paths]
        """,
    )
    with Client(lab.mesh.address) as client:
        settings: dict[str, Any] = {"mini_batch_size": 2, "error_threshold": 2, "process_count_per_node": 1}
        job = client.submit(script, "datastore://blobs/going", tmp_path / "out", **settings)
        until(client, job.job_id, lambda job: job.progress.planned_mini_batches == 10 and job.progress.workers >= 1)
        for number in (16, 19):
            lab.container.delete_blob(f"going/{number}.txt")
        (tmp_path / "go").touch()
        job = succeeded(final(client, job.job_id))
    assert lines(job) == [str(number) for number in range(20) if number not in (16, 19)]
    failures = failed_items(job)
    assert [each["item"] for each in failures] == [f"datastore://blobs/going/{number}.txt" for number in (16, 19)]
    assert {each["kind"] for each in failures} == {"UNREADABLE_FILE"}
    assert all(each["item"] in each["error"] for each in failures)
    adds_up(job)


def test_a_scheduler_killed_while_it_plans_goes_on_without_a_row_twice(lab: Lab, tmp_path: Path) -> None:
    count = 60
    for number in range(count):
        lab.container.upload_blob(f"many/{number:03}.csv", f"x,y\n{number},a\n{number},b\n", overwrite=True)
    with Client(lab.mesh.address) as client:
        script = write_script(tmp_path, SUM)
        job = client.submit(script, "datastore://blobs/many", tmp_path / "out", mini_batch_size="1 rows")
        seen = until(client, job.job_id, lambda job: job.progress.planned_mini_batches > 10)
        assert seen.progress.planned_mini_batches < 2 * count
        lab.mesh.scheduler.kill()
        lab.mesh.scheduler = lab.mesh.start_scheduler(lab.mesh.address)
        job = succeeded(final(client, job.job_id))
    assert lines(job) == [f"{number} {letter}" for number in range(count) for letter in "ab"]
    adds_up(job)


@pytest.mark.parametrize(
    ("reference", "how", "words"),
    [
        ("datastore://blobs/gone.csv", {"account_key": KEY}, ("datastore://blobs/gone.csv",)),
        ("datastore://blobs/texts/*.xml", {"account_key": KEY}, ("datastore://blobs/texts/*.xml",)),
        ("datastore://nobody/texts", {"account_key": KEY}, ("nobody",)),
        ("datastore://wrong/texts", {"account_key": "d3Jvbmcta2V5"}, ("wrong", "refuses")),
        ("datastore://wrong/texts", {"sas_token": Azurite.sas("other", read=True, list=True)}, ("wrong", "refuses")),
        ("datastore://wrong/texts/", {"sas_token": Azurite.sas("data", list=True)}, ("wrong", "refuses")),
        ("datastore://wrong/texts", {"endpoint": "http://127.0.0.1:9/devstoreaccount1"}, ("wrong", "does not answer")),
    ],
)
def test_what_cannot_be_read_is_one_sentence_at_submission(
    lab: Lab, tmp_path: Path, reference: str, how: dict[str, str], words: tuple[str, ...]
) -> None:
    lab.register("wrong", **how)
    with Client(lab.mesh.address) as client, pytest.raises(BatchmeshError) as refused:
        client.submit(write_script(tmp_path, READ), reference, tmp_path / "out")
    for word in words:
        assert word in str(refused.value)
    assert not any(secret in str(refused.value) for secret in how.values() if secret != KEY)
    assert not (tmp_path / "out").exists()
