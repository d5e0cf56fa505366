"""The Python that an entry script runs in.

pip_packages ──▶ a virtual environment, made once on each node for its content
user_managed_dependencies and interpreter_path ──▶ that interpreter, as it is
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batchmesh.entries import Entry, EntryKind
from batchmesh.errors import Refused, SpecRefused
from batchmesh.python_environment import PythonEnvironment
from batchmesh.sdk import ranges
from batchmesh.sdk.conda_dependencies import CondaDependencies
from batchmesh.sdk.errors import NotServed
from batchmesh.sdk.unused import say_unused
from batchmesh.sdk.yaml_file import read_yaml

if TYPE_CHECKING:
    from batchmesh.sdk.workspace import Workspace

#: Kept where a program sets them; no image is pulled.
DEFAULT_CPU_IMAGE = "batchmesh/unused-cpu-image"
DEFAULT_GPU_IMAGE = "batchmesh/unused-gpu-image"


@dataclass
class PythonSection:
    """`environment.python`."""

    #: Nothing is installed: `interpreter_path` is used as it is.
    user_managed_dependencies: bool = False
    #: On each node: absolute, or looked up there; "python" is the agent's own.
    interpreter_path: str = "python"
    #: Goes before `conda_dependencies`.
    conda_dependencies_file: str | None = None
    conda_dependencies: CondaDependencies = field(default_factory=CondaDependencies)
    base_conda_environment: str | None = None


@dataclass
class DockerSection:
    """`environment.docker`: kept, and unused, for workers run on the nodes themselves."""

    enabled: bool = False
    base_image: str | None = DEFAULT_CPU_IMAGE
    base_dockerfile: str | None = None
    shared_volumes: bool = True
    shm_size: str | None = None
    gpu_support: bool = True
    arguments: list[str] = field(default_factory=list)
    base_image_registry: Any = None


@dataclass
class SparkSection:
    """`environment.spark`: kept, and unused."""

    repositories: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    precache_packages: bool = True


class Environment:
    """A named description; nothing happens before a step runs in it."""

    def __init__(self, name: str, *, entry: Entry | None = None) -> None:
        """Errors: SpecRefused for an empty name."""
        if not isinstance(name, str) or not name:
            raise SpecRefused(f"An environment needs a name, not {name!r}.")
        self.name = name
        self.python = PythonSection()
        self.docker = DockerSection()
        self.spark = SparkSection()
        self.environment_variables: dict[str, str] = {}
        self.inferencing_stack_version: str | None = None
        self._entry = entry

    def __repr__(self) -> str:
        return f"Environment({self.name!r})"

    @property
    def version(self) -> str | None:
        """As registered; None if it is not."""
        return str(self._entry.version) if self._entry else None

    @staticmethod
    def from_pip_requirements(
        name: str, file_path: str | os.PathLike[str], pip_version: str | None = None
    ) -> Environment:
        """From a requirements.txt. Errors: Refused for a file that cannot be read."""
        del pip_version
        try:
            with open(file_path, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
        except OSError as error:
            raise Refused(f"{os.fspath(file_path)} cannot be read: {error.strerror}.") from None
        made = Environment(name)
        wanted = [line for line in lines if line and not line.startswith("#")]
        made.python.conda_dependencies = CondaDependencies.create(pip_packages=wanted)
        return made

    @staticmethod
    def from_conda_specification(name: str, file_path: str | os.PathLike[str]) -> Environment:
        """From a conda file, whose packages for pip are installed. Errors: Refused for a file that cannot be read."""
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(_underlying_structure=read_yaml(file_path))
        return made

    def clone(self, new_name: str) -> Environment:
        """A copy under another name, that is not registered."""
        import copy

        made = copy.deepcopy(self)
        made.name, made._entry = new_name, None
        return made

    def register(self, workspace: Workspace) -> Environment:
        """Gives it its next version in the workspace; its variables, docker and spark are not kept there.

        Errors: NotServed for conda packages; BadName.
        """
        entry = Entry(self.name, self.for_job(), workspace=workspace.name)
        self._entry = workspace.client.catalog.register(entry, overwrite=True)
        return self

    @staticmethod
    def get(workspace: Workspace, name: str, version: str | None = None) -> Environment:
        """Errors: NoEntry, for an unknown name or version; SpecRefused for a version that is no number."""
        number = ranges.version("an environment", version)
        return _environment(workspace.client.catalog.get(EntryKind.ENVIRONMENT, name, number, workspace.name))

    @staticmethod
    def list(workspace: Workspace) -> dict[str, Environment]:
        """The newest version of each, by name."""
        found = workspace.client.catalog.list(EntryKind.ENVIRONMENT, workspace=workspace.name)
        return {entry.name: _environment(entry) for entry in found}

    def for_job(self) -> PythonEnvironment:
        """As a job names it, with one log line for each thing that is set and unused.

        Errors: NotServed for conda packages and for base_conda_environment; SpecRefused for a relative interpreter.
        """
        self._say_unused()
        python = self.python
        if python.base_conda_environment:
            raise NotServed(
                "base_conda_environment is not served; give its interpreter_path with user_managed_dependencies."
            )
        interpreter = "" if python.interpreter_path == "python" else python.interpreter_path
        if interpreter and not os.path.isabs(interpreter):
            raise SpecRefused(f"The interpreter_path {interpreter!r} of the environment {self.name!r} is not absolute.")
        if python.user_managed_dependencies:
            return PythonEnvironment(self.name, interpreter_path=interpreter, user_managed=True)
        file = python.conda_dependencies_file
        dependencies = CondaDependencies(file) if file else python.conda_dependencies
        return PythonEnvironment(self.name, dependencies.requirements(), interpreter)

    def _say_unused(self) -> None:
        for section, fresh in (("docker", DockerSection()), ("spark", SparkSection())):
            mine = getattr(self, section)
            set_ones = [name for name in vars(fresh) if getattr(mine, name) != getattr(fresh, name)]
            if set_ones:
                names = ", ".join(f"{section}.{name}" for name in set_ones)
                say_unused(f"{names} of the environment {self.name!r}", "workers run on the nodes themselves.")


def _environment(entry: Entry) -> Environment:
    content = entry.content
    assert isinstance(content, PythonEnvironment)
    made = Environment(entry.name, entry=entry)
    made.python.user_managed_dependencies = content.user_managed
    made.python.interpreter_path = content.interpreter_path or "python"
    if content.requirements:
        structure = {"dependencies": [{"pip": list(content.requirements)}]}
        made.python.conda_dependencies = CondaDependencies(_underlying_structure=structure)
    return made
