"""The image builds from deploy/Dockerfile, and its three commands are a mesh that runs a job.

No registry is asked: the base image is Debian's own Python, which is all that the Dockerfile needs of it, made by
debootstrap under the name in FROM, in a store of the test's own. Containers share the host's network.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from batchmesh.health import is_serving
from tests.components.tools import CLONE, output_of, tool
from tests.support.story import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Podman = Callable[..., str]

BASE, IMAGE = "docker.io/library/python:3.11-slim-bookworm", "localhost/batchmesh:test"
CONFIGURATION = """[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE, SCHEDULER, AGENT = "127.0.0.1:17071", "127.0.0.1:17072", "127.0.0.1:17073"
INSTALL = "apt-get install podman buildah runc debootstrap"


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Podman with a store of its own, which is gone afterwards."""
    commands = [tool(name, INSTALL) for name in ("podman", "runc")]
    if os.geteuid():
        pytest.skip("building an image needs root: sudo make test-components")
    folder = tmp_path_factory.mktemp("podman")
    (folder / "containers.conf").write_text(CONFIGURATION)
    os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
    store = ("--root", folder / "store", "--runroot", folder / "run")

    def call(*arguments: str | Path) -> str:
        # Files, not pipes: what watches over a detached container keeps its output open for as long as that lives.
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
            command = [commands[0], *store, *arguments]
            status = subprocess.run(command, cwd=CLONE, stdout=said, stderr=complained, check=False).returncode
            said.seek(0)
            complained.seek(0)
            assert status == 0, f"{command}\n{said.read()}{complained.read()}"
            return said.read()

    yield call
    call("rm", "--all", "--force")
    call("rmi", "--all", "--force")
    del os.environ["CONTAINERS_CONF"]


@pytest.fixture(scope="module")
def image(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built as deploy/README.md says."""
    folder = tmp_path_factory.mktemp("base")
    packages = "--include=python3,python3-venv,python-is-python3,ca-certificates"
    output_of(tool("debootstrap", INSTALL), "--variant=minbase", packages, "bookworm", folder / "root")
    output_of("tar", "-C", folder / "root", "-cf", folder / "root.tar", ".")
    podman("import", "--quiet", folder / "root.tar", BASE)
    shutil.rmtree(folder)
    how = ("--format", "docker", "--isolation", "chroot", "--network", "host", "--pull=never")
    podman("build", *how, *pip_settings(), "--file", CLONE / "deploy" / "Dockerfile", "--tag", IMAGE, CLONE)
    return IMAGE


def pip_settings() -> Iterator[str]:
    """pip inside the build finds packages as pip here does: its settings, and the files and folders they name."""
    for line in output_of(CLONE / ".venv" / "bin" / "python", "-m", "pip", "config", "list").splitlines():
        name, _, quoted = line.partition("=")
        value = " ".join(ast.literal_eval(quoted).split())
        yield f"--env=PIP_{name.rpartition('.')[2].replace('-', '_').upper()}={value}"
        for path in filter(os.path.exists, value.split()):
            yield f"--volume={path}:{path}:ro"


@contextmanager
def container(podman: Podman, folder: Path, address: str, *command: str) -> Iterator[None]:
    """One service in a container, from when it serves until it has ended on SIGTERM."""
    how = ("--detach", "--network", "host", "--pull=never", "--volume", f"{folder}:{folder}")
    name = podman("run", *how, IMAGE, *command).strip()
    try:
        wait_for(lambda: is_serving(address), f"{command[0]} serves")
        yield
    finally:
        podman("stop", "--time", "30", name)


@pytest.mark.timeout(900)
def test_the_image_runs_as_a_user_that_is_not_root(podman: Podman, image: str) -> None:
    who = podman("run", "--rm", "--network", "host", "--pull=never", "--entrypoint", "id", image, "-u")
    assert who.strip() == "1000"


@pytest.mark.timeout(300)
def test_three_containers_of_the_image_are_a_mesh_that_runs_a_job(podman: Podman, image: str, tmp_path: Path) -> None:
    texts = CLONE / "examples" / "word_counts"
    data = tmp_path / "data"
    shutil.copytree(texts, data)
    for path in (tmp_path.parents[1], tmp_path.parent, tmp_path):
        path.chmod(0o755)
    os.chown(data, 1000, 1000)
    kept = "/var/lib/batchmesh"
    with ExitStack() as mesh:

        def serve(address: str, *command: str) -> None:
            mesh.enter_context(container(podman, data, address, command[0], "--listen", address, *command[1:]))

        serve(STORAGE, "storage", "--root", f"{kept}/storage")
        serve(SCHEDULER, "scheduler", "--storage", STORAGE, "--state", f"{kept}/state")
        serve(AGENT, "agent", "--scheduler", SCHEDULER, "--work", f"{kept}/work", "--slots", "2")
        places = ("--input", data / "texts", "--output", data / "output", "--append-row-file-name", "words.csv")
        how = ("--rm", "--network", "host", "--pull=never", "--volume", f"{data}:{data}")
        podman("run", *how, image, "run", data / "word_counts.py", "--scheduler", SCHEDULER, *places)
    names = [line.split(",")[0].strip('"') for line in (data / "output" / "words.csv").read_text().splitlines()]
    assert names == ["file", *sorted(path.name for path in (texts / "texts").iterdir())]
