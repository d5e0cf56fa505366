"""What is published works without the clone: built, installed in an empty environment, and run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[2]
IRIS = CLONE / "examples" / "iris"
PARTS = (
    "scheduler/machine.py",
    "agent/worker.py",
    "storage/segments.py",
    "v1/job_pb2.py",
    "v1/job_pb2.pyi",
    "py.typed",
)
LOOP = "import iris_prediction as it, pandas; it.init(); print(*it.run(pandas.read_csv('iris.csv')).predicted)"


def call(*command: str | Path, cwd: Path) -> str:
    """Runs a command with nothing of this test's environment in it; its output."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "BATCHMESH"))
    }
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution of a copy of the clone, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("published")
    tracked = call("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=CLONE).split("\0")
    for name in filter(None, tracked):
        if (CLONE / name).exists() or (CLONE / name).is_symlink():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CLONE / name, folder / "clone" / name, follow_symlinks=False)
    call(sys.executable, "-m", "build", "--outdir", folder, folder / "clone", cwd=folder)
    return folder


@pytest.mark.timeout(300)
def test_the_wheel_and_the_source_distribution_hold_every_part(published: Path) -> None:
    [wheel], [sdist] = published.glob("*.whl"), published.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.partition("/")[2]: member for member in archive}
    for part in PARTS:
        assert f"batchmesh/{part}" in in_wheel
        assert in_sdist[f"batchmesh/{part}"].isfile()
    assert {name.partition("/")[0].partition("-")[0] for name in in_wheel} == {"batchmesh"}


@pytest.mark.timeout(400)
def test_an_empty_environment_runs_the_iris_example_from_the_wheel(published: Path, tmp_path: Path) -> None:
    [wheel] = published.glob("*.whl")
    bin_folder = install(wheel, tmp_path / "environment")
    shutil.copytree(IRIS, tmp_path / "iris", ignore=shutil.ignore_patterns("__pycache__"))
    places = ("--home", tmp_path / "home", "--input", "iris/iris.csv", "--output", "out")
    options = ("--mini-batch-size", "20 rows", "--append-row-file-name", "iris.csv")

    call(bin_folder / "batchmesh", "run", "iris/iris_prediction.py", *places, *options, cwd=tmp_path)

    [header, *rows] = lines(tmp_path / "out" / "iris.csv")
    assert header == [*lines(IRIS / "iris.csv")[0], "predicted"]
    assert [row[-1] for row in rows] == call(bin_folder / "python", "-c", LOOP, cwd=tmp_path / "iris").split()
    where = call(bin_folder / "python", "-c", "import batchmesh.scheduler as it; print(it.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "environment")


def install(wheel: Path, environment: Path) -> Path:
    """A new environment with nothing but the wheel and what it depends on; its folder of commands."""
    if uv := shutil.which("uv"):
        call(uv, "venv", "-q", "--python", sys.executable, environment, cwd=wheel.parent)
        call(uv, "pip", "install", "-q", "--python", environment / "bin" / "python", wheel, cwd=wheel.parent)
    else:
        call(sys.executable, "-m", "venv", environment, cwd=wheel.parent)
        call(environment / "bin" / "pip", "install", "-q", wheel, cwd=wheel.parent)
    return environment / "bin"


def lines(path: Path) -> list[list[str]]:
    return [line.replace('"', "").split(",") for line in path.read_text().splitlines()]
