"""The packages of an environment. Those of pip are installed; conda's are refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from batchmesh.errors import SpecRefused
from batchmesh.sdk.errors import NotServed
from batchmesh.sdk.unused import say_unused
from batchmesh.sdk.yaml_file import read_yaml, write_yaml

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

_NAME = re.compile(r"^(?:[A-Za-z0-9_.-]+::)?([A-Za-z0-9_.-]+)")
#: What conda itself is asked for, and each node has already.
_THERE = ("python", "pip")


class CondaDependencies:
    """Packages by pip's and conda's names; `create`, or the methods that add one."""

    def __init__(
        self,
        conda_dependencies_file_path: str | os.PathLike[str] | None = None,
        _underlying_structure: dict[str, Any] | None = None,
    ) -> None:
        """From a conda file, where one is given. Errors: Refused for one that cannot be read."""
        given = _underlying_structure or {}
        if conda_dependencies_file_path is not None:
            given = read_yaml(conda_dependencies_file_path)
        self._channels: list[str] = list(given.get("channels") or [])
        self._conda: list[str] = []
        self._pip: list[str] = []
        self._options: list[str] = []
        for each in given.get("dependencies") or []:
            self._add(each)

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """Nothing is added to what is given: workers need no package of azureml's, nor of ours."""
        del pin_sdk_version
        for what, packages in (("pip_packages", pip_packages), ("conda_packages", conda_packages)):
            if isinstance(packages, str):
                raise SpecRefused(f"{what} is a list of packages, not {packages!r}.")
        made = CondaDependencies()
        for package in pip_packages or ():
            made.add_pip_package(package)
        for package in conda_packages or ():
            made.add_conda_package(package)
        if pip_indexurl:
            made.set_pip_index_url(pip_indexurl)
        if python_version:
            made.set_python_version(python_version)
        return made

    @property
    def pip_packages(self) -> Iterator[str]:
        return iter(self._pip)

    @property
    def conda_packages(self) -> Iterator[str]:
        return iter(self._conda)

    @property
    def conda_channels(self) -> Iterator[str]:
        return iter(self._channels)

    def add_pip_package(self, pip_package: str) -> None:
        """A line of a requirements.txt. Errors: SpecRefused for what is none."""
        if not isinstance(pip_package, str) or not pip_package.strip() or "\n" in pip_package:
            raise SpecRefused(f"The pip package {pip_package!r} is no line of a requirements.txt.")
        self._pip.append(pip_package.strip())

    def remove_pip_package(self, pip_package: str) -> None:
        self._pip = [each for each in self._pip if _name(each) != _name(pip_package)]

    def add_conda_package(self, conda_package: str) -> None:
        """Kept; refused when it is to be installed, unless it is python or pip."""
        self._conda.append(conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        self._conda = [each for each in self._conda if _name(each) != _name(conda_package)]

    def add_channel(self, channel: str) -> None:
        """Kept, and unused: no conda package is installed."""
        self._channels.append(channel)

    def set_pip_index_url(self, index_url: str) -> None:
        self._options = [f"--index-url {index_url}"]

    def set_pip_option(self, pip_option: str) -> None:
        self._options.append(pip_option)

    def set_python_version(self, version: str) -> None:
        """Kept: the Python of an environment is that of each node's agent, or of `interpreter_path`."""
        self.remove_conda_package("python")
        self._conda.append(f"python={version}")

    def requirements(self) -> tuple[str, ...]:
        """The lines of a requirements.txt. Errors: NotServed for a conda package."""
        for package in self._conda:
            if _name(package) not in _THERE:
                raise NotServed(
                    f"The conda package {package!r} is not served; name it among pip_packages, or make an environment "
                    "by hand on each node and give its interpreter_path with user_managed_dependencies."
                )
            if _name(package) == "python":
                say_unused(f"the conda package {package!r}", "the Python is that of each node's agent.")
        return (*self._options, *self._pip)

    def save_to_file(self, base_directory: str, conda_file_path: str = "conda_dependencies.yml") -> str:
        """Writes a conda file below the folder, and returns its name."""
        from pathlib import Path

        write_yaml(Path(base_directory) / conda_file_path, self.as_dict())
        return conda_file_path

    def as_dict(self) -> dict[str, Any]:
        """As a conda file has it."""
        channels = {"channels": list(self._channels)} if self._channels else {}
        return {**channels, "dependencies": [*self._conda, {"pip": [*self._options, *self._pip]}]}

    def serialize_to_string(self) -> str:
        import yaml

        return str(yaml.safe_dump(self.as_dict(), sort_keys=False))

    def _add(self, dependency: Any) -> None:
        if isinstance(dependency, str):
            self.add_conda_package(dependency)
            return
        if not isinstance(dependency, dict) or set(dependency) != {"pip"}:
            raise SpecRefused(f"The dependency {dependency!r} of a conda file is neither a package nor a list for pip.")
        for line in dependency["pip"] or []:
            (self._options if line.startswith("-") else self._pip).append(line)


def _name(package: str) -> str:
    found = _NAME.match(package)
    return found[1].lower() if found else package
