"""What an environment becomes for a job, and what of it is refused or said to be unused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchmesh import DEFAULT_GPU_IMAGE, CondaDependencies, Environment
from batchmesh.errors import Refused, SpecRefused
from batchmesh.python_environment import PythonEnvironment
from batchmesh.sdk import NotServed

if TYPE_CHECKING:
    from pathlib import Path


def test_pip_packages_become_requirements() -> None:
    environment = Environment("batch_environment")
    dependencies = CondaDependencies.create(
        pip_packages=["tensorflow==1.13.1", "pillow"], pip_indexurl="https://pip.test"
    )
    environment.python.conda_dependencies = dependencies
    requirements = ("--index-url https://pip.test", "tensorflow==1.13.1", "pillow")
    assert environment.for_job() == PythonEnvironment("batch_environment", requirements)


@pytest.mark.parametrize("what", ["pip_packages", "conda_packages"])
def test_packages_are_a_list_of_texts(what: str) -> None:
    given: dict[str, Any] = {what: "numpy"}
    with pytest.raises(SpecRefused, match=f"{what} is a list of packages, not 'numpy'"):
        CondaDependencies.create(**given)


def test_packages_may_be_added_to_a_fresh_environment() -> None:
    environment = Environment("fresh")
    environment.python.conda_dependencies.add_pip_package("numpy")
    assert environment.for_job().requirements == ("numpy",)
    assert Environment("other").for_job().requirements == ()


def test_a_user_managed_environment_is_an_interpreter_as_it_is() -> None:
    environment = Environment("mine")
    environment.python.user_managed_dependencies = True
    assert environment.for_job() == PythonEnvironment("mine", user_managed=True)
    environment.python.interpreter_path = "/opt/mine/bin/python"
    assert environment.for_job().interpreter_path == "/opt/mine/bin/python"
    environment.python.interpreter_path = "bin/python"
    with pytest.raises(SpecRefused, match="is not absolute"):
        environment.for_job()


def test_a_conda_package_is_refused_in_one_sentence() -> None:
    environment = Environment("conda")
    environment.python.conda_dependencies = CondaDependencies.create(conda_packages=["scikit-learn=0.22"])
    with pytest.raises(NotServed, match=r"^The conda package 'scikit-learn=0.22' is not served; .*pip_packages.*\.$"):
        environment.for_job()


def test_the_python_of_conda_is_kept_and_said_to_be_unused(caplog: pytest.LogCaptureFixture) -> None:
    environment = Environment("python")
    environment.python.conda_dependencies = CondaDependencies.create(python_version="3.6.3", pip_packages=["a"])
    assert environment.for_job().requirements == ("a",)
    assert "Kept, and unused here: the conda package 'python=3.6.3'; " in caplog.text


def test_docker_and_spark_are_kept_and_said_to_be_unused_once(caplog: pytest.LogCaptureFixture) -> None:
    environment = Environment("docker_and_spark")
    environment.docker.enabled = True
    environment.docker.base_image = DEFAULT_GPU_IMAGE
    environment.spark.precache_packages = False
    environment.for_job()
    environment.for_job()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "docker.enabled, docker.base_image" in said[0]
    assert "spark.precache_packages" in said[1]


def test_an_environment_comes_from_the_files_that_pip_and_conda_use(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# those\nnumpy\n\npandas>=2\n")
    (tmp_path / "conda.yml").write_text(
        "name: x\nchannels: [y]\ndependencies:\n  - python=3.9\n  - pip:\n    - numpy\n"
    )
    by_pip = Environment.from_pip_requirements("p", tmp_path / "requirements.txt")
    by_conda = Environment.from_conda_specification("c", tmp_path / "conda.yml")
    assert by_pip.for_job().requirements == ("numpy", "pandas>=2")
    assert by_conda.for_job().requirements == ("numpy",)
    with pytest.raises(Refused, match="cannot be read"):
        Environment.from_pip_requirements("p", tmp_path / "none.txt")


def test_packages_can_be_changed_and_written() -> None:
    made = CondaDependencies.create(pip_packages=["numpy==2", "pandas"])
    made.add_pip_package("pillow")
    made.remove_pip_package("numpy")
    made.set_python_version("3.11")
    assert list(made.pip_packages) == ["pandas", "pillow"]
    assert CondaDependencies(_underlying_structure=made.as_dict()).as_dict() == made.as_dict()
    assert "python=3.11" in made.serialize_to_string()
    with pytest.raises(SpecRefused, match="no line of a requirements"):
        made.add_pip_package("a\nb")


def test_a_clone_is_another_environment() -> None:
    first = Environment("first")
    second = first.clone("second")
    second.python.user_managed_dependencies = True
    assert (first.name, first.python.user_managed_dependencies) == ("first", False)
    assert second.version is None
